#pragma once
// Reading logs of json-file and local: several rotated files as one, from the end, and as they grow.

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/engine.h"

namespace hull::engine {

struct LogRecord {
  int stream = 1;
  TimePoint when;
  std::string text;
};
/// One line of a log file; false for what is no record (a line that a crash cut).
bool parse_log_line(std::string_view line, LogRecord* record);
/// The form of the driver "local": "TIME stdout|stderr F|P TEXT" (F: a whole line, P: a part of one).
bool parse_local_line(std::string_view line, LogRecord* record);

struct LogFiles {
  std::string path;
  bool local = false;      // the form of the driver "local"
  std::string decompress;  // hull-images, for older files that were compressed; "": they are left out
};

/// Delivers what options ask of `files.path` and its rotated older files (path.1, path.2 ...). With follow it goes on
/// until `ended` says so (asked whenever nothing is new) or the sink fails; `wake_fd` becomes readable when `ended` may
/// have changed (-1: none).
Result<void> read_logs(const LogFiles& files, const LogOptions& options, const LogSink& sink,
                       const std::function<bool()>& ended, int wake_fd);

}  // namespace hull::engine
