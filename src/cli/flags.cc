#include "cli/flags.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::cli {
namespace {

template <typename Match>
const Flag* find_if(FlagTables tables, Match match) {
  for (const std::span<const Flag> table : tables) {
    for (const Flag& flag : table) {
      if (match(flag)) return &flag;
    }
  }
  return nullptr;
}

/// Refuses a value that can't be one of the flag's kind, so that commands can rely on it.
Result<void> check_value(const Flag& flag, std::string_view shown, std::string_view value) {
  const auto invalid = [&](std::string_view why) {
    return errorf(ErrorKind::kInvalid, "invalid argument \"{:.80}\" for \"{}\" flag: {}", value, shown, why);
  };
  if (value.find('\0') != std::string_view::npos) return invalid("it holds a NUL character");
  switch (flag.kind) {
    case ValueKind::kBool:
      if (!parse_bool(value)) return invalid("expected true or false");
      break;
    case ValueKind::kInt: {
      auto number = parse_int(value, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
      if (!number.ok()) return invalid("expected a whole number");
      break;
    }
    case ValueKind::kDecimal: {
      double number = 0;
      const auto [rest, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error != std::errc() || rest != value.data() + value.size()) return invalid("expected a decimal number");
      break;
    }
    case ValueKind::kSize:
      // -1 stands for "no limit" where Docker has it; the setter decides whether it is allowed.
      if (value != "-1") {
        if (auto size = parse_size(value); !size.ok()) return invalid("expected a size such as 512m or 2g");
      }
      break;
    case ValueKind::kDuration:
      if (auto duration = parse_duration(value); !duration.ok()) return invalid("expected a duration such as 1m30s");
      break;
    case ValueKind::kText:
      break;
  }
  if (flag.complete == Complete::kWords && !flag.words.empty() && flag.kind == ValueKind::kText && !flag.repeatable &&
      flag.set == nullptr) {
    std::string_view rest = flag.words;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find(' '), rest.size());
      const std::string_view word = rest.substr(0, end);
      if (word == value || (word.ends_with(':') && value.starts_with(word))) return {};
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return invalid(fmt::format("expected one of {}", flag.words));
  }
  return {};
}

/// "-n, --last" or "--last"
std::string shown_name(const Flag& flag) {
  if (flag.short_name == 0) return fmt::format("--{}", flag.name);
  return fmt::format("-{}, --{}", flag.short_name, flag.name);
}

class Parser {
 public:
  Parser(FlagTables tables, std::span<const std::string_view> words, ParseRules rules)
      : tables_(tables), words_(words), rules_(rules) {}

  Result<Parsed> parse() {
    bool only_arguments = false;
    for (at_ = 0; at_ < words_.size(); ++at_) {
      const std::string_view word = words_[at_];
      if (only_arguments || word.size() < 2 || word[0] != '-') {
        parsed_.arguments.emplace_back(word);
        only_arguments = only_arguments || rules_.stop_at_first_argument;
      } else if (word == "--") {
        only_arguments = true;
      } else if (word[1] == '-') {
        TRY(parse_long(word.substr(2)));
      } else {
        TRY(parse_cluster(word.substr(1)));
      }
    }
    return std::move(parsed_);
  }

 private:
  Result<void> take(const Flag& flag, std::string_view shown, std::string_view value) {
    TRY(check_value(flag, shown, value));
    parsed_.given.push_back({&flag, std::string(value)});
    return {};
  }

  /// The word after the current one, as the value of a flag.
  Result<std::string_view> next_value(std::string_view shown) {
    if (at_ + 1 >= words_.size()) return errorf(ErrorKind::kInvalid, "flag needs an argument: {}", shown);
    return words_[++at_];
  }

  Result<void> parse_long(std::string_view text) {
    const size_t equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    const Flag* flag = find_flag(tables_, name);
    const std::string shown = flag != nullptr ? shown_name(*flag) : fmt::format("--{:.80}", name);
    if (flag == nullptr) {
      if (name == "help" && (equals == std::string_view::npos || parse_bool(text.substr(equals + 1)).value_or(false))) {
        parsed_.help = true;
        return {};
      }
      return unknown_long(name, shown);
    }
    if (equals != std::string_view::npos) return take(*flag, shown, text.substr(equals + 1));
    if (flag->kind == ValueKind::kBool) return take(*flag, shown, "true");
    TRY_ASSIGN(const std::string_view value, next_value(shown));
    return take(*flag, shown, value);
  }

  Result<void> parse_cluster(std::string_view text) {
    const std::string_view cluster = text;
    while (!text.empty()) {
      const char letter = text[0];
      text.remove_prefix(1);
      const Flag* flag = find_flag(tables_, letter);
      if (flag == nullptr) {
        if (letter == 'h') {
          parsed_.help = true;
          continue;
        }
        return errorf(ErrorKind::kInvalid, "unknown shorthand flag: '{}' in -{:.80}", letter, cluster);
      }
      const std::string shown = shown_name(*flag);
      if (text.starts_with('=') && (flag->kind == ValueKind::kBool || text.size() > 1)) {
        return take(*flag, shown, text.substr(1));
      }
      if (flag->kind == ValueKind::kBool) {
        TRY(take(*flag, shown, "true"));
        continue;
      }
      if (!text.empty()) return take(*flag, shown, text);
      TRY_ASSIGN(const std::string_view value, next_value(shown));
      return take(*flag, shown, value);
    }
    return {};
  }

  Error unknown_long(std::string_view name, std::string_view shown) const {
    std::vector<std::string_view> names;
    for (const auto table : tables_) {
      for (const Flag& flag : table) {
        if (!flag.hidden) names.push_back(flag.name);
      }
    }
    const std::string_view near = nearest(name, names);
    if (near.empty()) return errorf(ErrorKind::kInvalid, "unknown flag: {}", shown);
    return errorf(ErrorKind::kInvalid, "unknown flag: {} (did you mean --{}?)", shown, near);
  }

  FlagTables tables_;
  std::span<const std::string_view> words_;
  ParseRules rules_;
  size_t at_ = 0;
  Parsed parsed_;
};

/// Optimal string alignment distance (insert, delete, replace, swap of neighbours), at most 64 characters each.
size_t edit_distance(std::string_view a, std::string_view b) {
  constexpr size_t kMost = 64;
  if (a.size() > kMost || b.size() > kMost) return kMost;
  std::array<std::array<uint8_t, kMost + 1>, 3> rows{};
  for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = static_cast<uint8_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i + 2) % 3];
    const auto& two_above = rows[(i + 1) % 3];
    row[0] = static_cast<uint8_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int change = a[i - 1] == b[j - 1] ? 0 : 1;
      int best = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) best = std::min(best, two_above[j - 2] + 1);
      row[j] = static_cast<uint8_t>(best);
    }
  }
  return rows[a.size() % 3][b.size()];
}

}  // namespace

const Flag* find_flag(FlagTables tables, std::string_view long_name) {
  return find_if(tables, [&](const Flag& flag) { return flag.name == long_name; });
}

const Flag* find_flag(FlagTables tables, char short_name) {
  return find_if(tables, [&](const Flag& flag) { return flag.short_name != 0 && flag.short_name == short_name; });
}

bool Parsed::on(std::string_view name) const { return parse_bool(value(name, "false")).value_or(false); }

bool Parsed::has(std::string_view name) const {
  return std::any_of(given.begin(), given.end(), [&](const Given& one) { return one.flag->name == name; });
}

std::string_view Parsed::value(std::string_view name, std::string_view fallback) const {
  std::string_view last = fallback;
  for (const Given& one : given) {
    if (one.flag->name == name) last = one.value;
  }
  return last;
}

std::vector<std::string> Parsed::values(std::string_view name) const {
  std::vector<std::string> all;
  for (const Given& one : given) {
    if (one.flag->name == name) all.push_back(one.value);
  }
  return all;
}

std::optional<int64_t> Parsed::number(std::string_view name) const {
  if (!has(name)) return std::nullopt;
  return parse_int(value(name), std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()).value_or(0);
}

Result<Parsed> parse_flags(FlagTables tables, std::span<const std::string_view> words, ParseRules rules) {
  return Parser(tables, words, rules).parse();
}

std::optional<bool> parse_bool(std::string_view text) {
  for (const std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > 64) return {};
  std::string_view best;
  size_t best_distance = word.size() / 3 + 2;
  for (const std::string_view candidate : candidates) {
    // The start of a name counts as one slip: people who type --mem mean --memory.
    const bool is_start = word.size() >= 2 && candidate.starts_with(word);
    const size_t distance = is_start ? 1 : edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace hull::cli
