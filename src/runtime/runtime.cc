#include "runtime/runtime.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "runtime/console.h"
#include "runtime/hooks.h"
#include "runtime/launch.h"
#include "runtime/notify.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {
namespace {

Result<UniqueFd> connect_gate(int folder) {
  UniqueFd gate(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!gate) return errno_error("make unix socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder, kGateFile);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(gate.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error("open the gate of the container");
  }
  return gate;
}

/// Where process.terminal's master goes when nobody here shows it.
Result<UniqueFd> console_target(const oci::Process& process, const std::string& socket, bool detached) {
  if (!process.terminal) {
    if (!socket.empty()) {
      return errorf(ErrorKind::kInvalid, "cannot use console socket if runtime will not allocate a tty");
    }
    return UniqueFd();
  }
  if (!socket.empty()) {
    auto connected = sys::connect_unix(socket);
    if (!connected.ok()) return std::move(connected).error().context("console socket");
    return connected;
  }
  if (detached)
    return errorf(ErrorKind::kInvalid, "cannot allocate tty if runtime will detach without setting console socket");
  return UniqueFd();
}

Result<void> run_start_hooks(const Record& record) {
  if (record.start_container.empty()) return {};
  TRY_ASSIGN(const UniqueFd pidfd, sys::pidfd_open(record.pid));
  TRY_ASSIGN(const UniqueFd root, sys::open(fmt::format("/proc/{}/root", record.pid), O_PATH | O_DIRECTORY));
  HookPlace place;
  place.pidfd = pidfd.get();
  place.namespaces = static_cast<int>(record.namespaces);
  place.root_fd = root.get();
  place.join_pid = true;
  return run_hooks("startContainer", record.start_container, state_document(record, "created"), place);
}

/// A failure ends the container (runtime.md, step 9); the caller sees to that.
Result<void> run_poststart_hooks(const Record& record) {
  HookPlace place;
  place.folder = record.bundle;
  return run_hooks("poststart", record.poststart, state_document(record, "running"), place);
}

}  // namespace

Result<void> Runtime::require_container(bool is_vm, std::string_view what) {
  if (!is_vm) return {};
  wants_vm_ = true;
  return errorf(ErrorKind::kUnsupported, "{} is a virtual machine: use hull-oci-vm", what);
}

Result<void> Runtime::create(const CreateOptions& options) {
  Launch launch(options_, options);
  TRY(launch.load());
  TRY(require_container(launch.spec().vm.has_value(), "config.json"));
  TRY_ASSIGN(const UniqueFd console, console_target(*launch.spec().process, options.console_socket, true));
  TRY(launch.make(child::Gate::kListener, console.get()));
  launch.release();
  return {};
}

Result<void> Runtime::start(const std::string& id) {
  TRY_ASSIGN(const UniqueFd folder, open_container(options_.root, id));
  TRY_ASSIGN(const Record record, read_record(folder.get(), id));
  TRY(require_container(record.vm.has_value(), id));
  switch (status_of(folder.get(), record)) {
    case Status::kCreated:
      break;
    case Status::kStopped:
      return errorf(ErrorKind::kConflict, "cannot start a container that has stopped");
    case Status::kCreating:
      return errorf(ErrorKind::kConflict, "cannot start a container that is being created");
    default:
      return errorf(ErrorKind::kConflict, "cannot start an already running container");
  }
  TRY_ASSIGN(const UniqueFd pidfd, sys::pidfd_open(record.pid));
  auto hooks = run_start_hooks(record);
  if (!hooks.ok()) {
    ignore_result(sys::pidfd_signal(pidfd.get(), SIGKILL));
    return hooks;
  }
  TRY_ASSIGN(UniqueFd gate, connect_gate(folder.get()));
  Channel channel(std::move(gate));
  TRY(channel.answer('S'));
  oci::Process process;
  process.args = {record.program};
  const ListenerTarget target{record.listener_path, record.listener_metadata, state_document(record, "running"),
                              record.pid};
  auto followed = follow_exec(channel, pidfd.get(), target, {nullptr, &process, nullptr});
  ::unlinkat(folder.get(), kGateFile, 0);
  TRY(std::move(followed));
  auto poststart = run_poststart_hooks(record);
  if (!poststart.ok()) ignore_result(remove(id, true));
  return poststart;
}

Result<int> Runtime::run(const CreateOptions& options) {
  Launch launch(options_, options);
  TRY(launch.load());
  TRY(require_container(launch.spec().vm.has_value(), "config.json"));
  const oci::Process& process = *launch.spec().process;
  if (process.args.empty() || process.args[0].empty()) {
    return errorf(ErrorKind::kInvalid, "config.json: process.args names nothing to run");
  }
  TRY_ASSIGN(UniqueFd console, console_target(process, options.console_socket, options.detach));
  ConsolePair pair;
  if (process.terminal && !console) {
    TRY_ASSIGN(pair, make_console_pair());
    console = std::move(pair.childs);
  }
  if (!options.detach && !options.no_subreaper) ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  TRY(launch.make(child::Gate::kSocket, console.get()));
  console.reset();
  UniqueFd master;
  if (pair.ours) {
    TRY_ASSIGN(master, receive_console(pair.ours.get()));
  }
  // With a socket the container waits at its gate (launch.cc): nothing that it says can be missed.
  std::optional<NotifyProxy> notify;
  if (!options.notify_socket.empty()) {
    TRY_ASSIGN(notify, NotifyProxy::listen(options_.root + "/" + options.id, options.notify_socket));
  }
  if (!launch.is_quiet()) {
    TRY(run_start_hooks(launch.record()));
    TRY(launch.go());
    TRY(run_poststart_hooks(launch.record()));
  }
  if (options.detach) {
    if (notify) TRY(notify->wait(launch.pidfd(), launch.pid()));
    launch.release();
    return 0;
  }
  TRY_ASSIGN(const int code, wait_in_foreground(launch.pid(), launch.pidfd(), master.get(), !options.no_subreaper,
                                                notify ? &*notify : nullptr));
  if (launch.is_quiet()) TRY(launch.failure());
  launch.release();
  if (!options.keep) {
    auto removed = remove_stopped(launch, options_);
    if (!removed.ok()) log_warning("{}", removed.error().message());
  }
  return code;
}

}  // namespace hull::runtime
