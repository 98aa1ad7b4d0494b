// Another process in a machine. This program stands for it: relays its streams, passes signals on, and ends with its
// exit code; detached, a child of it does so and its pid is the one in the pid file.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "isolation/cgroup.h"
#include "runtime/console.h"
#include "runtime/launch.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"
#include "vm/descriptors.h"
#include "vm/runtime.h"
#include "vm/terminal.h"
#include "vm/vm_json.h"

namespace hull::vm {
namespace {

constexpr int kKilled = 128 + SIGKILL;
constexpr auto kBlockedPatience = std::chrono::seconds(10);

class Exec {
 public:
  Exec(const OpenedMachine& machine, const runtime::ExecOptions& options) : machine_(machine), options_(options) {}

  Result<int> run();

 private:
  Result<void> check() const;
  Result<void> open_terminal();
  guest::proto::ExecRequest request(const guest::proto::Streams& streams) const;
  Result<void> start();
  Result<int> follow();
  Result<int> hand_to_child();
  [[noreturn]] void child(int parent);
  /// Who the process runs as is looked up inside: vm.json says so, or the command line named a user.
  bool by_name() const;

  const OpenedMachine& machine_;
  const runtime::ExecOptions& options_;
  std::optional<Pty> pty_;
  UniqueFd signals_;
  std::string exec_id_;
  Relay::Ends ends_;
  std::optional<RemoteProcess> process_;
};

Result<void> Exec::check() const {
  if (options_.preserve_fds > 0) {
    return errorf(ErrorKind::kUnsupported, "--preserve-fds: no descriptor can reach a virtual machine");
  }
  if (!options_.cgroups.empty()) {
    return errorf(ErrorKind::kUnsupported, "--cgroup: control groups below a virtual machine's are its own");
  }
  if (runtime::is_paused(machine_.record)) {
    return errorf(ErrorKind::kConflict, "cannot exec in a paused virtual machine, --ignore-paused or not");
  }
  if (!options_.process.terminal && !options_.console_socket.empty()) {
    return errorf(ErrorKind::kInvalid, "cannot use console socket if runtime will not allocate a tty");
  }
  if (options_.process.terminal && options_.detach && options_.console_socket.empty()) {
    return errorf(ErrorKind::kInvalid, "cannot allocate tty if runtime will detach without setting console socket");
  }
  return {};
}

bool Exec::by_name() const {
  if (!options_.user.empty()) return true;
  auto text = sys::read_file(fmt::format("{}/{}", machine_.record.bundle, kVmJsonName), 1 << 20);
  if (!text.ok()) return false;
  auto parsed = parse_vm_json(*text);
  return parsed.ok() && parsed->resolve_user;
}

Result<void> Exec::open_terminal() {
  ends_ = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, false};
  if (!options_.process.terminal) return {};
  ends_ = {STDIN_FILENO, STDOUT_FILENO, -1, true};
  if (options_.console_socket.empty()) return {};
  TRY_ASSIGN(pty_, open_pty(options_.process.console_size ? &*options_.process.console_size : nullptr));
  TRY(send_master(options_.console_socket, *pty_));
  pty_->master.reset();
  ends_.in = ends_.out = pty_->slave.get();
  return {};
}

guest::proto::ExecRequest Exec::request(const guest::proto::Streams& streams) const {
  guest::proto::ExecRequest request;
  oci::Process process = options_.process;
  process.apparmor_profile.clear();  // the host's, as for the first process
  process.selinux_label.clear();
  request.set_exec_id(exec_id_);
  request.set_process(oci::to_json(process));
  *request.mutable_streams() = streams;
  request.set_ignore_paused(options_.ignore_paused);
  if (by_name()) {
    request.mutable_user()->set_set(true);
    request.mutable_user()->set_user(options_.user.empty() ? process.user.username : options_.user);
    request.mutable_user()->set_set_home(options_.user.empty());
  }
  return request;
}

Result<void> Exec::start() {
  TRY_ASSIGN(exec_id_, guest::make_stream_token());
  TRY_ASSIGN(const std::string token, guest::make_stream_token());
  guest::proto::Streams streams = Relay::describe(ends_, token);
  if (ends_.terminal) {
    auto size = terminal_size(ends_.in);
    if (!size && options_.process.console_size) size = options_.process.console_size;
    set_size(streams, size);
  }
  const auto limit = [&] { return guest::after(machine_.patience.call); };
  TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(machine_.vsock, limit()));
  TRY_ASSIGN(signals_, catch_signals());
  TRY_ASSIGN([[maybe_unused]] const uint32_t pid, agent.exec(request(streams), limit()));
  process_.emplace(machine_.vsock, exec_id_, signals_.get(), machine_.patience);
  TRY(process_->open_streams(token, ends_));
  return process_->watch(std::move(agent));
}

/// To the end of the process. A machine that is gone has taken it along.
Result<int> Exec::follow() {
  PollSet set;
  while (!process_->ended()) {
    set.clear();
    process_->collect(set);
    TRY(set.wait(-1));
  }
  process_->drain(machine_.patience.idle, kBlockedPatience);
  if (!process_->ended()->ok()) return kKilled;
  return exit_code_of(**process_->ended());
}

void Exec::child(int parent) {
  ::setsid();
  ::prctl(PR_SET_NAME, "hull-vm-exec");
  close_inherited_descriptors();
  // It waits until its pid is written down.
  char byte = 0;
  if (::read(parent, &byte, 1) != 1) ::_exit(kKilled);
  ::close(parent);
  if (pty_) {
    if (!adopt_terminal(pty_->slave.get()).ok()) ::_exit(kKilled);
    make_raw(STDIN_FILENO);
    process_->send_size();
  }
  auto code = follow();
  ::_exit(code.ok() ? *code : kKilled);
}

/// A child that lives on: in the machine's control group, so that it is paused and ended with it.
Result<int> Exec::hand_to_child() {
  TRY_ASSIGN(sys::Pipe gate, sys::make_pipe());
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("fork");
  if (pid == 0) {
    gate.write_end.reset();
    child(gate.read_end.get());
  }
  gate.read_end.reset();
  if (!machine_.record.cgroup.empty()) {
    auto cgroup = isolation::Cgroup::open(machine_.record.cgroup);
    if (cgroup.ok()) ignore_result(cgroup->add_process(pid));
  }
  TRY_ASSIGN(const UniqueFd pidfd, sys::pidfd_open(pid));
  if (!options_.pidfd_socket.empty()) {
    TRY_ASSIGN(const UniqueFd socket, sys::connect_unix(options_.pidfd_socket));
    TRY(sys::send_fds(socket.get(), "pidfd", {pidfd.get()}));
  }
  if (!options_.pid_file.empty()) TRY(runtime::write_pid_file(options_.pid_file, pid));
  TRY(sys::write_all(gate.write_end.get(), "g"));
  if (options_.detach) return 0;
  signals_.reset();
  return runtime::wait_in_foreground(pid, pidfd.get(), -1, false);
}

Result<int> Exec::run() {
  TRY(check());
  TRY(open_terminal());
  TRY(start());
  if (options_.detach || pty_ || !options_.pidfd_socket.empty()) return hand_to_child();
  if (!options_.pid_file.empty()) TRY(runtime::write_pid_file(options_.pid_file, ::getpid()));
  std::optional<RawInput> raw;
  if (ends_.terminal) raw.emplace();
  return follow();
}

}  // namespace

Result<int> execute(const OpenedMachine& machine, const runtime::ExecOptions& options) {
  return Exec(machine, options).run();
}

}  // namespace hull::vm
