#include "base/json_reader.h"

#include <charconv>

#include "base/error_format.h"

namespace hull {

namespace {
constexpr size_t kShownTextBytes = 40;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, unsigned code) {
  const auto put = [&](unsigned byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | (code >> 6));
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3f));
    put(0x80 | ((code >> 6) & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

/// A piece of the document for an error message, without control characters.
std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kShownTextBytes)) out.push_back(c >= 0x20 && c < 0x7f ? c : '?');
  return out;
}
}  // namespace

bool JsonReader::SeenKeys::add(std::string_view key) {
  for (size_t i = 0; i < count_; ++i) {
    if (first_[i] == key) return false;
  }
  if (count_ < first_.size()) {
    first_[count_++] = key;
    return true;
  }
  return rest_.insert(key).second;
}

void JsonReader::fail(std::string_view what) {
  if (error_) return;
  std::string member;
  for (const PathElement& element : path_) {
    if (element.key.data() == nullptr) {
      member += fmt::format("[{}]", element.index);
    } else {
      if (!member.empty()) member.push_back('.');
      member += shown(element.key);
    }
  }
  // Past the end of what was read the position is all there is to name.
  if (member.empty()) member = fmt::format("at byte {}", at_ - begin_);
  error_ = errorf(ErrorKind::kInvalid, "{}: {}", member, what);
}

void JsonReader::expected(std::string_view what) {
  if (at_ == end_) return fail(fmt::format("the text ends where {} should be (byte {})", what, at_ - begin_));
  fail(fmt::format("expected {}, found '{}' (byte {})", what,
                   shown(std::string_view(at_, static_cast<size_t>(end_ - at_)).substr(0, 12)), at_ - begin_));
}

Result<void> JsonReader::finish() {
  if (!failed()) {
    skip_space();
    if (at_ != end_) expected("the end of the document");
  }
  if (error_) return *error_;
  return {};
}

bool JsonReader::enter(char open, std::string_view what) {
  if (failed()) return false;
  skip_space();
  if (at_ == end_ || *at_ != open) {
    expected(what);
    return false;
  }
  if (++depth_ > kMaxDepth) {
    fail(fmt::format("nested deeper than {} levels", kMaxDepth));
    return false;
  }
  ++at_;
  first_in_container_ = true;
  return true;
}

/// Stands at the next member or element, or passes the closing bracket.
bool JsonReader::more(char close) {
  if (failed()) return false;
  const bool first = std::exchange(first_in_container_, false);
  skip_space();
  if (at_ != end_ && *at_ == close) {
    ++at_;
    return false;
  }
  if (!first) {
    if (at_ == end_ || *at_ != ',') {
      expected(close == '}' ? "',' or '}'" : "',' or ']'");
      return false;
    }
    ++at_;
    skip_space();
  }
  if (++values_ > kMaxValues) {
    fail(fmt::format("the document holds more than {} values", kMaxValues));
    return false;
  }
  return true;
}

std::string_view JsonReader::member_key() {
  std::string scratch;
  skip_space();
  if (at_ == end_ || *at_ != '"') {
    expected("a member name");
    return {};
  }
  std::string_view key = string_token(scratch, true);
  if (failed()) return {};
  if (!scratch.empty()) key = unescaped_keys_.emplace_back(std::move(scratch));
  skip_space();
  if (at_ == end_ || *at_ != ':') {
    expected("':'");
    return {};
  }
  ++at_;
  // An empty name must not look like an array index in path_.
  return key.data() == nullptr ? std::string_view("") : key;
}

bool JsonReader::hex4(unsigned& out) {
  if (end_ - at_ < 4) return false;
  out = 0;
  const auto [rest, code] = std::from_chars(at_, at_ + 4, out, 16);
  if (code != std::errc() || rest != at_ + 4) return false;
  at_ += 4;
  return true;
}

/// Stands behind the backslash; appends what the escape means.
bool JsonReader::decode_escape(std::string& out) {
  if (at_ == end_) return false;
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  const char letter = *at_++;
  if (const size_t found = kLetters.find(letter); found != std::string_view::npos) {
    out.push_back(kMeanings[found]);
    return true;
  }
  if (letter != 'u') return false;
  unsigned code = 0;
  if (!hex4(code)) return false;
  if (code >= 0xdc00 && code <= 0xdfff) return false;
  if (code >= 0xd800 && code <= 0xdbff) {
    unsigned low = 0;
    if (end_ - at_ < 6 || at_[0] != '\\' || at_[1] != 'u') return false;
    at_ += 2;
    if (!hex4(low) || low < 0xdc00 || low > 0xdfff) return false;
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  append_utf8(out, code);
  return true;
}

/// Passes one multi-byte character (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF).
bool JsonReader::utf8_sequence() {
  const auto byte = [&](int i) { return at_ + i < end_ ? static_cast<unsigned char>(at_[i]) : 0U; };
  const auto tail = [&](int i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned lead = byte(0);
  const unsigned second = byte(1);
  if (lead >= 0xc2 && lead <= 0xdf) {
    if (!tail(1)) return false;
    at_ += 2;
    return true;
  }
  if (lead >= 0xe0 && lead <= 0xef) {
    if (!tail(1) || !tail(2) || (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return false;
    at_ += 3;
    return true;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!tail(1) || !tail(2) || !tail(3) || (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) {
      return false;
    }
    at_ += 4;
    return true;
  }
  return false;
}

std::string_view JsonReader::string_token(std::string& scratch, bool allow_nul) {
  ++at_;
  const char* run = at_;
  bool escaped = false;
  while (at_ != end_) {
    const auto c = static_cast<unsigned char>(*at_);
    if (c == '"') {
      const std::string_view last(run, static_cast<size_t>(at_ - run));
      ++at_;
      if (!escaped) return last;
      scratch.append(last);
      if (!allow_nul && scratch.find('\0') != std::string::npos) fail("holds a NUL character");
      return scratch;
    }
    if (c == '\\') {
      escaped = true;
      scratch.append(run, static_cast<size_t>(at_ - run));
      ++at_;
      if (!decode_escape(scratch)) {
        fail(fmt::format("holds a wrong escape sequence (byte {})", at_ - begin_));
        return {};
      }
      run = at_;
    } else if (c < 0x20) {
      fail(fmt::format("holds a bare control character (byte {})", at_ - begin_));
      return {};
    } else if (c < 0x80) {
      ++at_;
    } else if (!utf8_sequence()) {
      fail(fmt::format("is not valid UTF-8 (byte {})", at_ - begin_));
      return {};
    }
  }
  fail("the text ends within a string");
  return {};
}

bool JsonReader::value(std::string& out) {
  out.clear();
  if (failed() || take_null()) return true;
  if (at_ == end_ || *at_ != '"') {
    expected("a string");
    return true;
  }
  std::string scratch;
  const std::string_view token = string_token(scratch, false);
  if (failed()) return true;
  if (scratch.empty()) {
    out.assign(token);
  } else {
    out = std::move(scratch);
  }
  return true;
}

void JsonReader::literal(std::string_view word) {
  if (!std::string_view(at_, static_cast<size_t>(end_ - at_)).starts_with(word)) return expected("a value");
  at_ += word.size();
}

bool JsonReader::take_null() {
  if (failed()) return false;
  skip_space();
  if (at_ == end_ || *at_ != 'n') return false;
  literal("null");
  return !failed();
}

bool JsonReader::value(bool& out) {
  out = false;
  if (failed() || take_null()) return true;
  const bool is_true = at_ != end_ && *at_ == 't';
  if (!is_true && (at_ == end_ || *at_ != 'f')) {
    expected("true or false");
    return true;
  }
  literal(is_true ? "true" : "false");
  out = is_true;
  return true;
}

std::string_view JsonReader::number_token() {
  const char* start = at_;
  const auto digits = [&] {
    const char* from = at_;
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return at_ != from;
  };
  if (at_ != end_ && *at_ == '-') ++at_;
  bool good = false;
  if (at_ != end_ && *at_ == '0') {
    ++at_;
    good = true;
  } else {
    good = digits();
  }
  if (good && at_ != end_ && *at_ == '.') {
    ++at_;
    good = digits();
  }
  if (good && at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    good = digits();
  }
  if (!good) {
    expected("a number");
    return {};
  }
  return {start, static_cast<size_t>(at_ - start)};
}

bool JsonReader::whole(std::string_view token) {
  if (failed()) return false;
  if (token.find_first_of(".eE") == std::string_view::npos) return true;
  fail(fmt::format("expected a whole number, found {}", shown(token)));
  return false;
}

int64_t JsonReader::signed_number(int64_t lowest, int64_t highest) {
  if (failed() || take_null()) return 0;
  if (at_ == end_ || (*at_ != '-' && !is_digit(*at_))) {
    expected("a whole number");
    return 0;
  }
  const std::string_view token = number_token();
  if (!whole(token)) return 0;
  int64_t number = 0;
  const auto [rest, code] = std::from_chars(token.begin(), token.end(), number);
  if (code != std::errc() || number < lowest || number > highest) {
    fail(fmt::format("{} is outside {} to {}", shown(token), lowest, highest));
    return 0;
  }
  return number;
}

uint64_t JsonReader::unsigned_number(uint64_t highest) {
  if (failed() || take_null()) return 0;
  if (at_ == end_ || (*at_ != '-' && !is_digit(*at_))) {
    expected("a whole number");
    return 0;
  }
  const std::string_view token = number_token();
  if (!whole(token)) return 0;
  uint64_t number = 0;
  // "-0" is zero; from_chars takes no sign for unsigned types, so any other negative number fails here.
  const std::string_view digits = token == "-0" ? std::string_view("0") : token;
  const auto [rest, code] = std::from_chars(digits.begin(), digits.end(), number);
  if (code != std::errc() || number > highest) {
    fail(fmt::format("{} is outside 0 to {}", shown(token), highest));
    return 0;
  }
  return number;
}

void JsonReader::skip() {
  if (failed()) return;
  skip_space();
  if (at_ == end_) return expected("a value");
  switch (*at_) {
    case '{':
      return object([&](std::string_view) {
        skip();
        return true;
      });
    case '[':
      return array([&] { skip(); });
    case '"': {
      std::string scratch;
      string_token(scratch, true);
      return;
    }
    case 't':
      return literal("true");
    case 'f':
      return literal("false");
    case 'n':
      return literal("null");
    default:
      number_token();
  }
}

}  // namespace hull
