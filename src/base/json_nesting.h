#pragma once

#include <cstddef>
#include <string_view>

namespace hull {

/// Whether lists and objects of the text nest no deeper than `levels`: asked before a recursive parser sees text from
/// outside, so that "[[[[..." costs nothing. Says nothing about whether it is JSON.
constexpr bool json_nests_within(std::string_view text, int levels) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > levels) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

}  // namespace hull
