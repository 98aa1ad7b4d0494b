#include "base/detach_keys.h"

#include <algorithm>

#include "base/error_format.h"

namespace hull {

Result<std::string> parse_detach_keys(std::string_view text) {
  std::string sequence;
  if (text.empty()) return sequence;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string_view key = text.substr(at, end - at);
    at = end + 1;
    if (key.size() == 1) {
      sequence += key[0];
      continue;
    }
    const char letter = key.size() == 6 && key.starts_with("ctrl-") ? key[5] : '\0';
    if (letter >= 'a' && letter <= 'z') {
      sequence += static_cast<char>(letter - 'a' + 1);
    } else if (letter == '@' || (letter >= '[' && letter <= '_')) {
      sequence += static_cast<char>(letter - '@');
    } else {
      return errorf(ErrorKind::kInvalid,
                    "invalid detach keys ({:.80}): unknown key '{:.20}' (a character, or ctrl- and "
                    "one of a-z @ [ \\ ] ^ _)",
                    text, key);
    }
  }
  return sequence;
}

bool DetachFilter::feed(std::string_view typed, std::string& out) {
  for (const char c : typed) {
    if (sequence_.empty()) {
      out += c;
      continue;
    }
    if (c != sequence_[matched_]) {
      // What was held back is not the sequence; its tail may still be the start of one (a,a,b after "aab").
      const std::string held = sequence_.substr(0, matched_) + c;
      size_t keep = matched_;
      while (keep > 0 && held.substr(held.size() - keep) != sequence_.substr(0, keep)) --keep;
      out += held.substr(0, held.size() - keep);
      matched_ = keep;
      continue;
    }
    if (++matched_ == sequence_.size()) return true;
  }
  return false;
}

}  // namespace hull
