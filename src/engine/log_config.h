#pragma once
// --log-driver and --log-opt: what they mean, and what is refused.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/config.h"

namespace hull::engine {

enum class LogDriver { kJsonFile, kLocal, kJournald, kNone };

struct LogConfig {
  LogDriver driver = LogDriver::kJsonFile;
  int64_t max_size = -1;  // bytes of one file; -1: never rotated
  int max_files = 1;      // the current one counts
  bool compress = false;  // rotated files, with gzip
  bool blocking = true;   // false: a record that can't be taken at once is dropped, the workload goes on
  int64_t buffer_size = 1 << 20;
};

/// What hull.toml's section [log] says: where a workload says nothing itself.
struct LogDefaults {
  std::string driver = "json-file";
  int64_t max_size = -1;
  int max_files = 1;
};

/// kInvalid when there is no such driver; "" is the default one.
Result<void> check_log_driver(std::string_view name);

/// The options as the driver takes them (the defaults of Docker's drivers of the same names). kInvalid for an option
/// that the driver does not have, and for a value that makes no sense.
Result<LogConfig> log_config(const Config& config, const LogDefaults& defaults);

/// Who writes, for tags.
struct LogSource {
  std::string id, name, image, image_id, command;
};
/// kInvalid for a mode that the driver does not have. Asked when a workload is made: older ones start as they did.
Result<void> check_log_mode(const Config& config, const LogDefaults& defaults);

/// What labels=, labels-regex=, env=, env-regex= and tag= add to each record of json-file.
Result<std::map<std::string, std::string>> log_attributes(const Config& config, const LogSource& source);
/// {{.ID}} {{.FullID}} {{.Name}} {{.ImageName}} {{.ImageID}} {{.ImageFullID}} {{.Command}} {{.DaemonName}}; anything
/// else in braces is refused.
Result<std::string> expand_log_tag(std::string_view pattern, const LogSource& source);

/// What the monitor puts into each record as it is: the members of "attrs" of json-file, or fields of the journal's
/// native protocol. At most kMostLogExtra bytes, else kInvalid.
inline constexpr size_t kMostLogExtra = 15 * 1024;
Result<std::string> log_extra(const Config& config, LogDriver driver, const LogSource& source);

}  // namespace hull::engine
