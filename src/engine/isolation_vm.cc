// A virtual machine: the program hull-oci-vm, which talks to the machine's supervisor and to the agent inside.
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "engine/isolation.h"
#include "engine/process.h"
#include "engine/runtime_error.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// How long a guest may take to pass on a signal before the machine is taken away from under it.
constexpr int kKillGraceMs = 10'000;

class VmDriver final : public IsolationDriver {
 public:
  VmDriver(const Settings& settings, const Paths& paths)
      : program_(settings.vm_runtime),
        root_(paths.vm_runtime_root()),
        systemd_cgroup_(settings.cgroup_manager == "systemd") {}

  std::vector<std::string> command() const override {
    std::vector<std::string> words = {program_, "--root", root_};
    if (systemd_cgroup_) words.emplace_back("--systemd-cgroup");
    return words;
  }
  Result<void> start(const std::string& id) override { return done(call({"start", id})); }
  Result<void> signal(const std::string& id, const RunState& state, int signal) override;
  Result<void> pause(const std::string& id) override { return done(call({"pause", id})); }
  Result<void> resume(const std::string& id) override { return done(call({"resume", id})); }
  Result<void> remove(const std::string& id) override {
    // Nothing of it there: no need to start a program, and none is needed where machines were never used.
    if (!sys::exists(root_ + "/" + id)) return {};
    return done(call({"delete", "--force", id}));
  }
  Result<void> update(const std::string& id, const oci::Resources& resources) override;
  Result<std::string> stats(const std::string& id) override { return call({"events", "--stats", id}); }
  Result<ProcessTable> top(const std::string& id, const std::vector<std::string>& ps_args) override {
    std::vector<std::string> words = {"ps", id};
    words.insert(words.end(), ps_args.begin(), ps_args.end());
    TRY_ASSIGN(const std::string text, call(std::move(words)));
    return parse_process_table(text);
  }

 private:
  static Result<void> done(Result<std::string> outcome) {
    if (!outcome.ok()) return std::move(outcome).error();
    return {};
  }
  /// Runs one command of hull-oci-vm to its end; what it printed, or what it said went wrong. A limit below 0 waits
  /// for ever: the program has its own.
  Result<std::string> call(std::vector<std::string> words, int limit_ms = -1) const;

  std::string program_, root_;
  bool systemd_cgroup_;
};

Result<std::string> VmDriver::call(std::vector<std::string> words, int limit_ms) const {
  const UniqueFd log(::memfd_create("hull-vm-log", MFD_CLOEXEC));
  const UniqueFd output(::memfd_create("hull-vm-output", MFD_CLOEXEC));
  if (!log || !output) return errno_error("memfd_create");
  SpawnRequest request;
  request.argv = command();
  request.argv.insert(request.argv.end(), {"--log", "/proc/self/fd/4", "--log-format", "json"});
  request.argv.insert(request.argv.end(), words.begin(), words.end());
  request.fds = {{1, output.get()}, {4, log.get()}};
  TRY_ASSIGN(Child child, spawn(request));
  if (limit_ms >= 0) {
    pollfd watched = {child.pidfd.get(), POLLIN, 0};
    if (::poll(&watched, 1, limit_ms) == 0) {
      ::syscall(SYS_pidfd_send_signal, child.pidfd.get(), SIGKILL, nullptr, 0);
      ignore_result(wait_for(child));
      return errorf(ErrorKind::kTimeout, "{} {}: no answer for {} seconds", program_, words[0], limit_ms / 1000);
    }
  }
  TRY_ASSIGN(const int code, wait_for(child));
  const auto text_of = [](const UniqueFd& fd) {
    if (::lseek(fd.get(), 0, SEEK_SET) != 0) return std::string();
    return sys::read_all(fd.get(), 16 << 20).value_or("");
  };
  if (code == 0) return text_of(output);
  const std::string said = last_log_message(text_of(log));
  if (!said.empty()) return errorf(ErrorKind::kInternal, "{}", said);
  return errorf(ErrorKind::kInternal, "{} {} failed with {} and said nothing", program_, words[0], code);
}

Result<void> VmDriver::signal(const std::string& id, const RunState& state, int signal) {
  // By way of the agent, also the ones that a supervisor could not catch: a guest whose workload is killed writes its
  // disk back before it powers off, one that is killed itself does not.
  auto passed = call({"kill", id, std::to_string(signal)}, kKillGraceMs);
  if (passed.ok() || signal != SIGKILL) return done(std::move(passed));
  return signal_process(state, SIGKILL);
}

Result<void> VmDriver::update(const std::string& id, const oci::Resources& resources) {
  TRY_ASSIGN(const UniqueFd document, sys::sealed_memfd("hull-resources", oci::to_json(resources)));
  // Named by our descriptor's number as the program sees it: it is our child, and /proc/PID/fd of ours is open to it.
  return done(call({"update", "--resources", fmt::format("/proc/{}/fd/{}", ::getpid(), document.get()), id}));
}

}  // namespace

std::unique_ptr<IsolationDriver> make_vm_driver(const Settings& settings, const Paths& paths) {
  return std::make_unique<VmDriver>(settings, paths);
}

}  // namespace hull::engine
