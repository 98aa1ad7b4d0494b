#pragma once
// Bounded text without the heap: what the monitor writes to files and messages.

#include <cstdint>
#include <cstring>

namespace hull::engine::monitor {

/// Appends to a fixed buffer; what does not fit is left out.
template <unsigned N>
class Text {
 public:
  Text& add(const char* text) { return add(text, strlen(text)); }
  Text& add(const char* text, unsigned long count) {
    if (count > N - 1 - used_) count = N - 1 - used_;
    memcpy(data_ + used_, text, count);
    used_ += static_cast<unsigned>(count);
    data_[used_] = 0;
    return *this;
  }
  Text& add_number(int64_t value) {
    char digits[24];
    char* at = digits + sizeof digits;
    const bool negative = value < 0;
    uint64_t rest = negative ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
    do {
      *--at = static_cast<char>('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    if (negative) *--at = '-';
    return add(at, static_cast<unsigned long>(digits + sizeof digits - at));
  }
  const char* c_str() const { return data_; }
  unsigned size() const { return used_; }

 private:
  char data_[N] = {};
  unsigned used_ = 0;
};

}  // namespace hull::engine::monitor
