#include "compose/dotenv.h"

namespace hull::compose {
namespace {

constexpr size_t kMostEntries = 10'000;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\v\f";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

class DotenvReader {
 public:
  DotenvReader(std::string_view text, const std::string* file, const VariableLookup& lookup)
      : rest_(text), file_(file), lookup_(lookup) {}

  Result<std::vector<EnvEntry>> read() {
    if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);
    if (rest_.find('\0') != std::string_view::npos) return errorf(ErrorKind::kInvalid, "{}: holds a NUL byte", *file_);
    while (!rest_.empty()) TRY(entry());
    return std::move(entries_);
  }

 private:
  Error refuse(std::string_view message) const { return error_at({file_, line_}, message); }

  /// Up to the end of the line, which is passed over.
  std::string_view take_line() {
    const size_t end = rest_.find('\n');
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    ++line_;
    return line;
  }

  void skip_blanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == '\r')) rest_.remove_prefix(1);
  }

  Result<void> entry() {
    skip_blanks();
    if (rest_.empty()) return {};
    if (rest_[0] == '\n' || rest_[0] == '#') {
      take_line();
      return {};
    }
    if (entries_.size() >= kMostEntries) return refuse("too many variables");
    if (rest_.starts_with("export ") || rest_.starts_with("export\t")) {
      rest_.remove_prefix(7);
      skip_blanks();
    }
    const size_t end = rest_.find_first_of("=:\n#");
    std::string_view name = trim(rest_.substr(0, end));
    if (name.empty()) return refuse("a line without a variable's name");
    if (name.find_first_of(" \t'\"") != std::string_view::npos) {
      return refuse(fmt::format("\"{:.60}\" is no variable's name", name));
    }
    std::string key(name);
    if (end == std::string_view::npos || rest_[end] == '\n' || rest_[end] == '#') {
      take_line();
      entries_.push_back({key, lookup_(key)});
      return {};
    }
    rest_.remove_prefix(end + 1);
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t')) rest_.remove_prefix(1);
    std::string value;
    if (!rest_.empty() && (rest_[0] == '\'' || rest_[0] == '"')) {
      TRY_ASSIGN(value, quoted(rest_[0]));
    } else {
      TRY_ASSIGN(value, plain());
    }
    set(std::move(key), std::move(value));
    return {};
  }

  void set(std::string key, std::string value) {
    for (EnvEntry& known : entries_) {
      if (known.name == key) {
        known.value = std::move(value);
        return;
      }
    }
    entries_.push_back({std::move(key), std::move(value)});
  }

  Result<std::string> expand(std::string_view text, int line) const {
    const VariableLookup lookup = [&](std::string_view name) -> std::optional<std::string> {
      // What the caller's environment says counts before the file.
      if (auto value = lookup_(name)) return value;
      for (const EnvEntry& entry : entries_) {
        if (entry.name == name) return entry.value;
      }
      return std::nullopt;
    };
    auto value = interpolate(text, lookup, {});
    if (!value.ok()) return error_at({file_, line}, value.error().message());
    return value;
  }

  Result<std::string> plain() {
    const int line = line_;
    std::string_view text = take_line();
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '#' && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t')) text = text.substr(0, i);
    }
    return expand(trim(text), line);
  }

  Result<std::string> quoted(char quote) {
    const int first_line = line_;
    rest_.remove_prefix(1);
    std::string text;
    for (;;) {
      if (rest_.empty()) return error_at({file_, first_line}, "the quotation mark is never closed");
      const char c = rest_[0];
      rest_.remove_prefix(1);
      if (c == '\n') ++line_;
      if (c == quote) break;
      if (quote == '"' && c == '\\' && !rest_.empty()) {
        text += escaped(rest_[0]);
        if (rest_[0] == '\n') ++line_;
        rest_.remove_prefix(1);
      } else {
        text += c;
      }
    }
    const int line = line_;
    const std::string_view tail = trim(take_line());
    if (!tail.empty() && tail[0] != '#') {
      return error_at({file_, line}, "something follows the closing quotation mark");
    }
    return quote == '"' ? expand(text, first_line) : Result<std::string>(std::move(text));
  }

  static std::string escaped(char c) {
    switch (c) {
      case 'n':
        return "\n";
      case 'r':
        return "\r";
      case 't':
        return "\t";
      case '$':
        return "$$";
      case '"':
      case '\\':
        return std::string(1, c);
      default:
        return std::string("\\") + c;
    }
  }

  std::string_view rest_;
  const std::string* file_;
  const VariableLookup& lookup_;
  int line_ = 1;
  std::vector<EnvEntry> entries_;
};

}  // namespace

Result<std::vector<EnvEntry>> parse_dotenv(std::string_view text, const std::string* file,
                                           const VariableLookup& lookup) {
  return DotenvReader(text, file, lookup).read();
}

Result<std::vector<EnvEntry>> parse_raw_env(std::string_view text, const std::string* file,
                                            const VariableLookup& lookup) {
  std::vector<EnvEntry> entries;
  for (int line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    std::string_view one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (one.ends_with('\r')) one.remove_suffix(1);
    const size_t first = one.find_first_not_of(" \t");
    if (first == std::string_view::npos || one[first] == '#') continue;
    one.remove_prefix(first);
    if (one.find('\0') != std::string_view::npos) return error_at({file, line}, "holds a NUL byte");
    if (entries.size() >= kMostEntries) return error_at({file, line}, "too many variables");
    const size_t equals = one.find('=');
    const std::string name(one.substr(0, equals));
    if (name.empty() || name.find_first_of(" \t") != std::string::npos) {
      return error_at({file, line}, fmt::format("\"{:.60}\" is no variable's name", name));
    }
    if (equals == std::string_view::npos) {
      entries.push_back({name, lookup(name)});
    } else {
      entries.push_back({name, std::string(one.substr(equals + 1))});
    }
  }
  return entries;
}

}  // namespace hull::compose
