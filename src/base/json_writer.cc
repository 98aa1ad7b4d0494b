#include "base/json_writer.h"

namespace hull {

namespace {
/// The length of the valid UTF-8 character at the start of `text`, 0 when there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned lead = byte(0);
  if (lead >= 0xc2 && lead <= 0xdf) return tail(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    const bool good = tail(1) && tail(2) && !(lead == 0xe0 && byte(1) < 0xa0) && !(lead == 0xed && byte(1) > 0x9f);
    return good ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const bool good =
        tail(1) && tail(2) && tail(3) && !(lead == 0xf0 && byte(1) < 0x90) && !(lead == 0xf4 && byte(1) > 0x8f);
    return good ? 4 : 0;
  }
  return 0;
}
}  // namespace

void JsonWriter::open(char bracket) {
  element();
  out_.push_back(bracket);
  ++depth_;
  first_ = true;
}

void JsonWriter::close(char bracket) {
  --depth_;
  if (!first_) new_line();
  first_ = false;
  out_.push_back(bracket);
}

void JsonWriter::element() {
  if (after_name_) {
    after_name_ = false;
    return;
  }
  if (depth_ == 0) return;
  if (!first_) out_.push_back(',');
  first_ = false;
  new_line();
}

void JsonWriter::new_line() {
  if (indent_ < 0) return;
  out_.push_back('\n');
  out_.append(static_cast<size_t>(indent_) * static_cast<size_t>(depth_), ' ');
}

/// Bytes that are not UTF-8 become U+FFFD, as Go's encoder does it: the document stays JSON whatever was put in.
void JsonWriter::quote(std::string_view text) {
  out_.push_back('"');
  size_t plain = 0;
  size_t i = 0;
  const auto flush = [&] { out_.append(text.substr(plain, i - plain)); };
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x80) {
      const size_t length = utf8_length(text.substr(i));
      if (length != 0) {
        i += length;
        continue;
      }
    } else if (c >= 0x20 && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    flush();
    switch (c) {
      case '"':
        out_ += "\\\"";
        break;
      case '\\':
        out_ += "\\\\";
        break;
      case '\n':
        out_ += "\\n";
        break;
      case '\r':
        out_ += "\\r";
        break;
      case '\t':
        out_ += "\\t";
        break;
      default:
        if (c >= 0x80) {
          out_ += "\xef\xbf\xbd";
        } else {
          fmt::format_to(std::back_inserter(out_), "\\u{:04x}", c);
        }
    }
    plain = ++i;
  }
  flush();
  out_.push_back('"');
}

}  // namespace hull
