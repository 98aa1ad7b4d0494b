#pragma once
// What tells one file's content from another's.

#include <string>
#include <string_view>

namespace hull::vm {

/// SHA-256 as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

}  // namespace hull::vm
