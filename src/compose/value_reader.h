#pragma once
// Typed values of a service's keys; every error names file, line and key.

#include "base/units.h"
#include "compose/node.h"

namespace hull::compose {

class ValueReader {
 public:
  ValueReader(const Node& map, std::string path) : map_(map), path_(std::move(path)) {}

  const Node* node(std::string_view key) const { return map_.value(key); }
  Error wrong(const Node& node, std::string_view key, std::string_view expected) const {
    return errorf_at(node.mark, "{}.{}: expected {}", path_, key, expected);
  }
  /// The same error with the place before it.
  Error at(const Node& node, std::string_view key, const Error& error) const {
    return error_at(node.mark, fmt::format("{}.{}: {}", path_, key, error.message()));
  }

  void text(std::string_view key, std::string& out) const {
    if (const Node* found = node(key)) out = found->text;
  }
  void texts(std::string_view key, std::vector<std::string>& out) const {
    const Node* found = node(key);
    if (found == nullptr) return;
    for (const Node& element : found->list) out.push_back(element.text);
  }
  Result<void> flag(std::string_view key, bool& out) const {
    const Node* found = node(key);
    if (found == nullptr) return {};
    const auto value = to_bool(*found);
    if (!value) return wrong(*found, key, "true or false");
    out = *value;
    return {};
  }
  template <typename T>
  Result<void> whole(std::string_view key, T& out, int64_t lowest, int64_t highest) const {
    const Node* found = node(key);
    if (found == nullptr) return {};
    const auto value = to_int(*found);
    if (!value || *value < lowest || *value > highest) {
      return wrong(*found, key, fmt::format("a whole number from {} to {}", lowest, highest));
    }
    out = static_cast<T>(*value);
    return {};
  }
  /// Bytes: 1048576, 512k, 1.5g.
  Result<void> size(std::string_view key, int64_t& out) const {
    const Node* found = node(key);
    if (found == nullptr) return {};
    const auto value = parse_size(found->text);
    if (!value.ok()) return at(*found, key, value.error());
    out = *value;
    return {};
  }
  /// 1m30s; a number alone is seconds, as older files have it.
  Result<void> duration(std::string_view key, int64_t& out_ns) const {
    const Node* found = node(key);
    if (found == nullptr) return {};
    const auto value = parse_duration(found->text);
    if (!value.ok() || value->count() < 0) return wrong(*found, key, "a duration, as in 1m30s");
    out_ns = value->count();
    return {};
  }
  /// Processors in 10^-9 parts.
  Result<void> cpus(std::string_view key, int64_t& out) const {
    const Node* found = node(key);
    if (found == nullptr) return {};
    const auto value = to_number(*found);
    constexpr double kMost = 100'000;
    if (!value || *value < 0 || *value > kMost) return wrong(*found, key, "a number of processors, as in 1.5");
    out = static_cast<int64_t>(*value * 1e9 + 0.5);
    return {};
  }

 private:
  const Node& map_;
  std::string path_;
};

}  // namespace hull::compose
