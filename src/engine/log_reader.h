#pragma once
// Reading json-file logs: several rotated files as one, from the end, and as they grow.

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

/// Delivers what options ask of `path` and its rotated older files (path.1, path.2 ...). With follow it goes on until
/// `ended` says so (asked whenever nothing is new) or the sink fails; `wake_fd` becomes readable when `ended` may have
/// changed (-1: none).
Result<void> read_logs(const std::string& path, const LogOptions& options, const LogSink& sink,
                       const std::function<bool()>& ended, int wake_fd);

}  // namespace hull::engine
