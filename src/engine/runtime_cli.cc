#include "engine/runtime_cli.h"

#include "base/error_format.h"
#include "engine/process.h"
#include "oci/json_reader.h"

namespace hull::engine {
namespace {

/// The last "msg" of JSON log lines, or the whole text.
std::string message_of(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const size_t line = text.rfind('\n');
  const std::string_view last = line == std::string_view::npos ? text : text.substr(line + 1);
  std::string message;
  oci::JsonReader r(last);
  r.object([&](std::string_view key) { return key == "msg" && r.value(message); });
  return r.finish().ok() && !message.empty() ? message : std::string(text);
}

}  // namespace

std::vector<std::string> RuntimeCli::command() const {
  std::vector<std::string> words = {program_, "--root", root_};
  if (systemd_cgroup_) words.emplace_back("--systemd-cgroup");
  return words;
}

Result<void> RuntimeCli::run(std::vector<std::string> arguments) const {
  std::vector<std::string> words = command();
  words.insert(words.end(), arguments.begin(), arguments.end());
  TRY_ASSIGN(const Captured captured, capture(std::move(words), 64 * 1024));
  if (captured.code == 0) return {};
  return errorf(ErrorKind::kInternal, "{}", message_of(captured.error));
}

Result<std::vector<int>> RuntimeCli::processes(const std::string& id) const {
  std::vector<std::string> words = command();
  words.insert(words.end(), {"ps", "--format", "json", id});
  TRY_ASSIGN(const Captured captured, capture(std::move(words)));
  if (captured.code != 0) return errorf(ErrorKind::kInternal, "{}", message_of(captured.error));
  std::vector<int> pids;
  oci::JsonReader r(captured.output);
  r.value(pids);
  TRY(r.finish().context("processes of the container"));
  return pids;
}

Result<std::string> RuntimeCli::stats(const std::string& id) const {
  std::vector<std::string> words = command();
  words.insert(words.end(), {"events", "--stats", id});
  TRY_ASSIGN(Captured captured, capture(std::move(words)));
  if (captured.code != 0) return errorf(ErrorKind::kInternal, "{}", message_of(captured.error));
  return std::move(captured.output);
}

}  // namespace hull::engine
