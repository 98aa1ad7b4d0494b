#include "runtime/command/flags.h"

#include <limits>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::runtime::command {
namespace {

Result<void> store(const Flag& flag, const std::string& value) {
  if (auto* const* text = std::get_if<std::string*>(&flag.target)) {
    **text = value;
  } else if (auto* const* list = std::get_if<std::vector<std::string>*>(&flag.target)) {
    (*list)->push_back(value);
  } else if (auto* const* number = std::get_if<int*>(&flag.target)) {
    auto parsed = parse_int(value, 0, std::numeric_limits<int>::max());
    if (!parsed.ok()) return std::move(parsed).error().context(fmt::format("flag --{}", flag.name));
    **number = static_cast<int>(*parsed);
  } else if (auto* const* flag_bool = std::get_if<bool*>(&flag.target)) {
    if (value == "true" || value == "1")
      **flag_bool = true;
    else if (value == "false" || value == "0")
      **flag_bool = false;
    else
      return errorf(ErrorKind::kInvalid, "flag --{}: \"{}\" is neither true nor false", flag.name, value);
  }
  return {};
}

const Flag* find(const std::vector<Flag>& flags, std::string_view name, bool letter) {
  for (const Flag& flag : flags) {
    if (letter ? (name.size() == 1 && flag.letter == name[0]) : flag.name == name) return &flag;
  }
  return nullptr;
}

}  // namespace

Result<Parsed> parse_flags(const std::vector<std::string>& argv, const std::vector<Flag>& flags, bool stop_at_argument,
                           size_t* next) {
  Parsed parsed;
  size_t at = 1;
  for (; at < argv.size(); ++at) {
    const std::string& word = argv[at];
    if (word == "--") {
      ++at;
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      if (stop_at_argument) break;
      parsed.arguments.push_back(word);
      continue;
    }
    std::string_view name(word);
    name.remove_prefix(name.starts_with("--") ? 2 : 1);
    std::string value;
    const size_t equals = name.find('=');
    const bool has_value = equals != std::string_view::npos;
    if (has_value) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    if (name == "help" || name == "h") {
      parsed.help = true;
      return parsed;
    }
    const Flag* flag = find(flags, name, false);
    if (flag == nullptr && !word.starts_with("--")) flag = find(flags, name, true);
    if (flag == nullptr) return errorf(ErrorKind::kInvalid, "flag provided but not defined: -{}", name);
    if (!has_value) {
      if (std::holds_alternative<bool*>(flag->target)) {
        value = "true";
      } else if (++at < argv.size()) {
        value = argv[at];
      } else {
        return errorf(ErrorKind::kInvalid, "flag needs an argument: -{}", name);
      }
    }
    TRY(store(*flag, value));
  }
  if (next != nullptr) *next = at;
  for (; at < argv.size(); ++at) parsed.arguments.push_back(argv[at]);
  return parsed;
}

std::string flags_help(const std::vector<Flag>& flags) {
  std::string out = "OPTIONS:\n";
  for (const Flag& flag : flags) {
    std::string left = fmt::format("   --{}", flag.name);
    if (flag.letter != 0) left += fmt::format(", -{}", flag.letter);
    if (!std::holds_alternative<bool*>(flag.target)) left += " value";
    out += fmt::format("{:<34} {}\n", left, flag.help);
  }
  return out;
}

}  // namespace hull::runtime::command
