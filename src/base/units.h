#pragma once
// Sizes and durations as people write and read them.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace hull {

/// "512", "64k", "1.5g", "10MB", "1GiB": bytes, powers of 1024 as Docker's --memory reads them.
Result<int64_t> parse_size(std::string_view text);
/// 223.4MB (powers of 1000, as docker images prints), four significant digits at most.
std::string format_size(uint64_t bytes);
/// 1.5GiB (powers of 1024, as docker stats prints).
std::string format_size_binary(uint64_t bytes);

/// Go's duration form: "300ms", "1h2m3.5s".
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);
/// "3 minutes", "About an hour", as docker ps prints ages.
std::string format_age(std::chrono::seconds age);

/// A whole decimal number in [lowest, highest]; no sign prefix "+", no white space, nothing after it.
Result<int64_t> parse_int(std::string_view text, int64_t lowest, int64_t highest);

/// RFC 3339 with nanoseconds in UTC ("2026-11-23T14:13:59.123456789Z"), and back (any offset).
std::string format_rfc3339(std::chrono::system_clock::time_point when);
Result<std::chrono::system_clock::time_point> parse_rfc3339(std::string_view text);

}  // namespace hull
