#include "engine/runtime_error.h"

#include <array>
#include <cctype>

#include "oci/json_reader.h"

namespace hull::engine {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

std::string last_log_message(std::string_view log) {
  while (log.ends_with('\n')) log.remove_suffix(1);
  const size_t line = log.rfind('\n');
  const std::string_view last = line == std::string_view::npos ? log : log.substr(line + 1);
  std::string message;
  oci::JsonReader r(last);
  r.object([&](std::string_view key) { return key == "msg" && r.value(message); });
  if (r.finish().ok() && !message.empty()) return message;
  return std::string(log);
}

Error start_failure(std::string_view text, const std::vector<std::string>& command) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const std::string program = command.empty() ? std::string() : command.front();
  std::string message = "failed to start the container: " + std::string(text);
  // Only what is said of the program itself: a mount source that does not exist is another matter.
  const bool about_program = contains(lower, "exec") || (!program.empty() && contains(text, program));
  static constexpr std::array<std::string_view, 3> kMissing = {"no such file or directory", "executable file not found",
                                                               "not found in $path"};
  static constexpr std::array<std::string_view, 3> kRefused = {"permission denied", "is a directory",
                                                               "exec format error"};
  const auto with = [&](int number, std::string_view reason) {
    // from_errno writes the reason at the end: it must not stand there twice.
    std::string what = message;
    if (lower.ends_with(reason)) {
      what.resize(what.size() - reason.size());
      while (what.ends_with(' ') || what.ends_with(':')) what.pop_back();
      return Error::from_errno(number, what);
    }
    return Error::from_errno(number, what);
  };
  if (about_program && !contains(lower, "mount")) {
    for (const std::string_view reason : kMissing) {
      if (contains(lower, reason)) return with(ENOENT, reason);
    }
    for (const std::string_view reason : kRefused) {
      if (contains(lower, reason)) return with(EACCES, reason);
    }
  }
  return {ErrorKind::kInternal, message};
}

}  // namespace hull::engine
