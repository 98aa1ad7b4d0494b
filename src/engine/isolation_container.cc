// A container: the runtime library in this process.
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/isolation.h"
#include "engine/process.h"
#include "engine/state.h"
#include "engine/user_group.h"
#include "rootless/rootless.h"
#include "runtime/runtime.h"

namespace hull::engine {
namespace {

/// Root of the user namespace of an ordinary user looks like root, but the host's control groups are not its.
std::optional<bool> rootless_option() { return rootless::inside() ? std::optional<bool>(true) : std::nullopt; }

class ContainerDriver final : public IsolationDriver {
 public:
  ContainerDriver(const Settings& settings, const Paths& paths)
      : program_(settings.runtime),
        paths_(paths),
        runtime_(runtime::Options{paths.runtime_root(), settings.cgroup_manager == "systemd", rootless_option()}) {}

  std::vector<std::string> command() const override {
    std::vector<std::string> words = {program_, "--root", runtime_.options().root};
    if (runtime_.options().systemd_cgroup) words.emplace_back("--systemd-cgroup");
    if (runtime_.options().rootless) words.insert(words.end(), {"--rootless", "true"});
    return words;
  }
  Result<void> start(const std::string& id) override { return runtime_.start(id); }
  Result<void> signal(const std::string&, const RunState& state, int signal) override {
    return signal_process(state, signal);
  }
  Result<void> pause(const std::string& id) override { return of_user("pause", runtime_.pause(id)); }
  Result<void> resume(const std::string& id) override { return of_user("unpause", runtime_.resume(id)); }
  Result<void> remove(const std::string& id) override { return runtime_.remove(id, true); }
  Result<void> update(const std::string& id, const oci::Resources& resources) override {
    return of_user("update", runtime_.update(id, resources));
  }
  Result<std::string> stats(const std::string& id) override { return of_user("stats", runtime_.stats(id)); }
  Result<ProcessTable> top(const std::string& id, const std::vector<std::string>& ps_args) override;

 private:
  /// An ordinary user's container may have no control group, and that is the usual reason for what is not supported.
  template <typename T>
  Result<T> of_user(std::string_view what, Result<T> done) const {
    if (done.ok() || !rootless::inside() || done.error().kind() != ErrorKind::kUnsupported) return done;
    return errorf(ErrorKind::kUnsupported, "{} needs a control group of this user's own ({}): {}", what,
                  done.error().message(), delegation_advice());
  }
  /// Where a container has no control group: who is in the process namespace of its first process.
  Result<std::vector<int>> processes(const std::string& id);

  std::string program_;
  Paths paths_;
  runtime::Runtime runtime_;
};

Result<std::vector<int>> ContainerDriver::processes(const std::string& id) {
  auto known = runtime_.processes(id);
  if (!rootless::inside() || (known.ok() && !known->empty())) return known;
  const RunState state = read_state(paths_, id);
  const auto namespace_of = [](std::string_view pid) -> ino_t {
    struct stat info{};
    return ::stat(fmt::format("/proc/{}/ns/pid", pid).c_str(), &info) == 0 ? info.st_ino : 0;
  };
  const ino_t wanted = namespace_of(std::to_string(state.pid));
  std::vector<int> out;
  if (wanted == 0 || wanted == namespace_of("self")) return out;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  while (proc != nullptr) {
    const dirent* entry = ::readdir(proc.get());
    if (entry == nullptr) break;
    const auto pid = parse_int(entry->d_name, 1, 1 << 22);
    if (pid.ok() && namespace_of(entry->d_name) == wanted) out.push_back(static_cast<int>(*pid));
  }
  return out;
}

Result<ProcessTable> ContainerDriver::top(const std::string& id, const std::vector<std::string>& ps_args) {
  TRY_ASSIGN(const std::vector<int> pids, processes(id));
  std::vector<std::string> argv = {"/usr/bin/ps"};
  if (ps_args.empty()) argv.emplace_back("-ef");
  argv.insert(argv.end(), ps_args.begin(), ps_args.end());
  TRY_ASSIGN(const Captured captured, capture(std::move(argv)));
  if (captured.code != 0) return errorf(ErrorKind::kInvalid, "ps: {}", captured.error);
  ProcessTable all = parse_process_table(captured.output);
  if (all.empty()) return all;
  const auto column = std::find(all[0].begin(), all[0].end(), "PID");
  if (column == all[0].end()) return errorf(ErrorKind::kInvalid, "Couldn't find PID field in ps output");
  const auto at = static_cast<size_t>(column - all[0].begin());
  ProcessTable rows = {all[0]};
  for (size_t i = 1; i < all.size(); ++i) {
    if (all[i].size() <= at) continue;
    const auto number = parse_int(all[i][at], 1, 1 << 30);
    if (number.ok() && std::find(pids.begin(), pids.end(), static_cast<int>(*number)) != pids.end()) {
      rows.push_back(std::move(all[i]));
    }
  }
  return rows;
}

}  // namespace

std::unique_ptr<IsolationDriver> make_container_driver(const Settings& settings, const Paths& paths) {
  return std::make_unique<ContainerDriver>(settings, paths);
}

Result<void> signal_process(const RunState& state, int signal) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, state.pid, 0)));
  if (!pidfd || process_start_time(state.pid) != state.start_time) return {};  // it has just ended
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return errnof("send signal {} to process {}", signal, state.pid);
  }
  return {};
}

ProcessTable parse_process_table(std::string_view text) {
  ProcessTable rows;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    std::vector<std::string> fields;
    while (!line.empty()) {
      while (line.starts_with(' ')) line.remove_prefix(1);
      if (line.empty()) break;
      // The last column is a command line and may hold blanks.
      const bool last = !rows.empty() && fields.size() + 1 == rows[0].size();
      const size_t space = last ? std::string_view::npos : line.find(' ');
      fields.emplace_back(line.substr(0, space));
      line.remove_prefix(space == std::string_view::npos ? line.size() : space);
    }
    if (!fields.empty() || rows.empty()) rows.push_back(std::move(fields));
  }
  return rows;
}

}  // namespace hull::engine
