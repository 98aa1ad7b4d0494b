#pragma once
// The format of .env and env_file: NAME=VALUE lines with comments, "export", quotes and variables.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compose/interpolate.h"

namespace hull::compose {

struct EnvEntry {
  std::string name;
  std::optional<std::string> value;  // none: the name stood alone, and nobody has set it
};

/// Values: 'literal'; "with \n, \t, \" and $VARIABLES, also over several lines"; plain, up to " #", with $VARIABLES.
/// Variables are looked for among the entries above, then through `lookup`. Errors name file and line.
Result<std::vector<EnvEntry>> parse_dotenv(std::string_view text, const std::string* file,
                                           const VariableLookup& lookup);

/// Docker's older format (`format: raw`): what follows "=" is the value, as it is.
Result<std::vector<EnvEntry>> parse_raw_env(std::string_view text, const std::string* file,
                                            const VariableLookup& lookup);

}  // namespace hull::compose
