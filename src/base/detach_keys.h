#pragma once
// The keys that leave a workload running and give the terminal back.

#include <string>
#include <string_view>

#include "base/error.h"

namespace hull {

inline constexpr std::string_view kDefaultDetachKeys = "ctrl-p,ctrl-q";

/// Docker's form: single characters or ctrl-<a-z, @, [, \, ], ^, _>, separated by commas. The bytes to wait for;
/// "" (no detaching) for an empty text.
Result<std::string> parse_detach_keys(std::string_view text);

/// Watches what is typed. What may be the start of the sequence is held back until the next byte decides.
class DetachFilter {
 public:
  explicit DetachFilter(std::string sequence) : sequence_(std::move(sequence)) {}
  /// Appends to `out` what is to be passed on. True when the sequence is complete (it is not passed on).
  bool feed(std::string_view typed, std::string& out);

 private:
  std::string sequence_;
  size_t matched_ = 0;
};

}  // namespace hull
