#pragma once
// Libraries return errors; programs log once, at the top. These lines are for what a person at a terminal or a log
// file should see beside results: warnings, and details when asked for.

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace hull {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

/// Sets the lowest level that is written, the format and the descriptor (default: warnings, text, standard error).
/// The descriptor stays the caller's. JSON lines are {"level","msg","time"} as runc's --log-format json writes them.
void set_log(LogLevel lowest, LogFormat format, int fd);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view message);

template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kDebug)) log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kWarning)) log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kError)) log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hull
