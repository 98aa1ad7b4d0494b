#include "base/log.h"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <string>

namespace hull {
namespace {

struct LogState {
  LogLevel lowest = LogLevel::kWarning;
  LogFormat format = LogFormat::kText;
  int fd = STDERR_FILENO;
};
LogState g_log;  // set once, by main

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

std::string json_escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

/// Control characters made visible: what an image or a client named must not steer the reader's terminal.
std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string timestamp() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  char text[64];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, length};
}

}  // namespace

void set_log(LogLevel lowest, LogFormat format, int fd) { g_log = {lowest, format, fd}; }

bool log_enabled(LogLevel level) { return level >= g_log.lowest; }

void log_line(LogLevel level, std::string_view message) {
  std::string line;
  if (g_log.format == LogFormat::kJson) {
    line = fmt::format("{{\"level\":\"{}\",\"msg\":\"{}\",\"time\":\"{}\"}}\n", level_name(level),
                       json_escaped(message), timestamp());
  } else {
    line = fmt::format("{}: {}\n", level_name(level), printable(message));
  }
  // One write, so that lines of several processes do not mix; a log that can't be written is no reason to fail.
  [[maybe_unused]] const ssize_t written = ::write(g_log.fd, line.data(), line.size());
}

}  // namespace hull
