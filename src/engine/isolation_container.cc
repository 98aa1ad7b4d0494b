// A container: the runtime library in this process.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/isolation.h"
#include "engine/process.h"
#include "runtime/runtime.h"

namespace hull::engine {
namespace {

class ContainerDriver final : public IsolationDriver {
 public:
  ContainerDriver(const Settings& settings, const Paths& paths)
      : program_(settings.runtime),
        runtime_(runtime::Options{paths.runtime_root(), settings.cgroup_manager == "systemd", std::nullopt}) {}

  std::vector<std::string> command() const override {
    std::vector<std::string> words = {program_, "--root", runtime_.options().root};
    if (runtime_.options().systemd_cgroup) words.emplace_back("--systemd-cgroup");
    return words;
  }
  Result<void> start(const std::string& id) override { return runtime_.start(id); }
  Result<void> signal(const std::string&, const RunState& state, int signal) override {
    return signal_process(state, signal);
  }
  Result<void> pause(const std::string& id) override { return runtime_.pause(id); }
  Result<void> resume(const std::string& id) override { return runtime_.resume(id); }
  Result<void> remove(const std::string& id) override { return runtime_.remove(id, true); }
  Result<void> update(const std::string& id, const oci::Resources& resources) override {
    return runtime_.update(id, resources);
  }
  Result<std::string> stats(const std::string& id) override { return runtime_.stats(id); }
  Result<ProcessTable> top(const std::string& id, const std::vector<std::string>& ps_args) override;

 private:
  std::string program_;
  runtime::Runtime runtime_;
};

Result<ProcessTable> ContainerDriver::top(const std::string& id, const std::vector<std::string>& ps_args) {
  TRY_ASSIGN(const std::vector<int> pids, runtime_.processes(id));
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
