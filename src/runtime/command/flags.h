#pragma once
// runc's way of options: --name value, --name=value, -n value, booleans also as --name=false.

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace hull::runtime::command {

struct Flag {
  std::string_view name;
  char letter = 0;  ///< 0: none
  std::variant<bool*, std::string*, std::vector<std::string>*, int*> target;
  std::string_view help;
};

struct Parsed {
  std::vector<std::string> arguments;
  bool help = false;
};
/// Reads options until the first argument that is none (stop_at_argument) or everywhere up to "--". argv[0] is not
/// read. kInvalid for what is unknown or lacks its value.
Result<Parsed> parse_flags(const std::vector<std::string>& argv, const std::vector<Flag>& flags, bool stop_at_argument,
                           size_t* next = nullptr);
std::string flags_help(const std::vector<Flag>& flags);

}  // namespace hull::runtime::command
