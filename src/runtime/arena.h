#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/child/plan.h"

namespace hull::runtime {

/// Memory that plans point into: addresses never move, everything goes at once. Filled before the clone, only read
/// after it.
class Arena {
 public:
  const char* text(std::string_view value) {
    char* copy = static_cast<char*>(take(value.size() + 1, 1));
    std::memcpy(copy, value.data(), value.size());
    copy[value.size()] = '\0';
    return copy;
  }
  char* mutable_text(std::string_view value) { return const_cast<char*>(text(value)); }
  template <typename T>
  T* array(size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    T* items = static_cast<T*>(take(count * sizeof(T), alignof(T)));
    for (size_t i = 0; i < count; ++i) new (items + i) T();
    return items;
  }
  template <typename T>
  child::Span<const T> copy(const std::vector<T>& from) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (from.empty()) return {};
    T* items = array<T>(from.size());
    std::memcpy(static_cast<void*>(items), from.data(), from.size() * sizeof(T));
    return {items, from.size()};
  }

 private:
  void* take(size_t size, size_t alignment) {
    size_t at = (used_ + alignment - 1) / alignment * alignment;
    if (blocks_.empty() || at + size > capacity_) {
      capacity_ = size > kBlock ? size : kBlock;
      blocks_.push_back(std::make_unique<std::max_align_t[]>(capacity_ / sizeof(std::max_align_t) + 1));
      at = 0;
    }
    used_ = at + size;
    return reinterpret_cast<char*>(blocks_.back().get()) + at;
  }
  static constexpr size_t kBlock = 32 << 10;
  std::vector<std::unique_ptr<std::max_align_t[]>> blocks_;
  size_t used_ = 0;
  size_t capacity_ = 0;
};

}  // namespace hull::runtime
