#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/merge.h"
#include "engine/process.h"
#include "engine/runtime_error.h"
#include "engine/user_group.h"
#include "isolation/capabilities.h"
#include "runtime/user_lookup.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

/// Takes one terminal master that was sent to a listening socket.
Result<UniqueFd> receive_master(int listener) {
  const UniqueFd peer(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return errno_error("accept the runtime on the console socket");
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  char data[256];
  iovec part = {data, sizeof data};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (::recvmsg(peer.get(), &header, MSG_CMSG_CLOEXEC) < 0) return errno_error("receive the terminal");
  const cmsghdr* c = CMSG_FIRSTHDR(&header);
  if (c == nullptr || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int))) {
    return errorf(ErrorKind::kInternal, "the runtime sent no terminal");
  }
  int master = -1;
  std::memcpy(&master, CMSG_DATA(c), sizeof master);
  return UniqueFd(master);
}

/// The last message of a JSON log, else the text.
std::string failure_text(int log_fd, int error_fd) {
  std::string text;
  if (::lseek(log_fd, 0, SEEK_SET) == 0) text = sys::read_all(log_fd, 1 << 20).value_or("");
  if (text.empty() && error_fd >= 0) {
    ::fcntl(error_fd, F_SETFL, O_NONBLOCK);
    char buffer[4096];
    const ssize_t got = ::read(error_fd, buffer, sizeof buffer);
    if (got > 0) text.assign(buffer, static_cast<size_t>(got));
  }
  text = last_log_message(text);
  return text.empty() ? "the runtime failed and said nothing" : text;
}

}  // namespace

Result<Engine::ExecHandle> EngineImpl::exec(std::string_view ref, const ExecConfig& wanted,
                                            std::optional<oci::Box> size) {
  reset_clock();
  if (wanted.cmd.empty()) return errorf(ErrorKind::kInvalid, "no exec command specified");
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  if (state.status == Status::kPaused) {
    return errorf(ErrorKind::kConflict, "container {} is paused, unpause the container before exec", row.name);
  }
  if (state.status == Status::kRestarting) {
    return errorf(ErrorKind::kConflict, "container {} is restarting, wait until the container is running", row.id);
  }
  if (state.status != Status::kRunning) return errorf(ErrorKind::kConflict, "container {} is not running", row.id);
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(Config config, parse_config(json));
  TRY(enter_user_group(config, settings_));
  mark("find the container");

  oci::Process process;
  process.terminal = wanted.tty;
  process.console_size = size;
  process.args = wanted.cmd;
  process.cwd = wanted.working_dir.empty() ? config.working_dir : wanted.working_dir;
  if (!process.cwd.starts_with('/')) {
    return errorf(ErrorKind::kInvalid, "the working directory '{}' is invalid, it needs to be an absolute path",
                  process.cwd);
  }
  TRY_ASSIGN(const SecurityOptions security, parse_security_options(config.security_opt));
  process.no_new_privileges = security.no_new_privileges;
  TRY_ASSIGN(process.rlimits, make_rlimits(config.ulimits));
  process.oom_score_adj = config.oom_score_adj;
  process.apparmor_profile = security.apparmor;
  config.privileged = config.privileged || wanted.privileged;
  config.tty = wanted.tty;
  TRY_ASSIGN(const std::vector<std::string> capabilities, effective_capabilities(config));
  process.capabilities = oci::Capabilities{capabilities, capabilities, {}, capabilities, {}};
  const std::string& user = wanted.user.empty() ? config.user : wanted.user;
  std::string home;
  if (row.isolation == Isolation::kVm) {
    // Looked up in the guest, which is the only one that sees the files.
    process.user.username = user;
  } else {
    // The files as the container has them now, inside its own root.
    TRY_ASSIGN(const sys::Root root, sys::Root::open(fmt::format("/proc/{}/root", state.pid)));
    if (process_start_time(state.pid) != state.start_time) {
      return errorf(ErrorKind::kConflict, "container {} is not running", row.id);
    }
    TRY_ASSIGN(const runtime::ResolvedUser resolved, runtime::resolve_user(root, user, config.groups_add));
    process.user.uid = resolved.uid;
    process.user.gid = resolved.gid;
    process.user.additional_gids = resolved.additional_gids;
    home = resolved.home;
  }
  // HOME as the exec's user has it, whatever the container's first process had.
  const std::string hostname = config.hostname.empty() ? host_name() : config.hostname;
  if (!config.links.empty()) TRY(add_link_environment(row, &config));
  process.env = merge_environment(process_environment(config, hostname, home), wanted.env);

  ExecHandle handle;
  handle.id = random_id();
  const std::string run = paths_.run_of(row.id);
  const std::string short_id = "exec-" + handle.id.substr(0, 16);
  TRY_ASSIGN(const UniqueFd document, sys::sealed_memfd("hull-exec", oci::to_json(process)));
  const UniqueFd log(::memfd_create("hull-exec-log", MFD_CLOEXEC));
  if (!log) return errno_error("memfd_create");
  SpawnRequest request;
  request.working_dir = run;
  request.read_only_program = row.isolation == Isolation::kContainer;
  request.argv = driver(row.isolation).command();
  request.argv.insert(request.argv.end(), {"--log", "/proc/self/fd/4", "--log-format", "json", "exec", "--process",
                                           "/proc/self/fd/3", "--detach", "--pid-file", short_id + ".pid"});
  request.fds = {{3, document.get()}, {4, log.get()}};
  UniqueFd listener;
  sys::Pipe in, out, err;
  const bool streams = !wanted.detach;
  if (wanted.tty) {
    listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    TRY_ASSIGN(const UniqueFd run_dir, sys::open(run, O_PATH | O_DIRECTORY));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = fmt::format("/proc/self/fd/{}/{}", run_dir.get(), short_id);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (!listener || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 1) != 0) {
      return errno_error("listen on the console socket");
    }
    request.argv.insert(request.argv.end(), {"--tty", "--console-socket", short_id});
  } else if (streams) {
    if (wanted.open_stdin) {
      TRY_ASSIGN(in, sys::make_pipe());
      request.fds.emplace_back(0, in.read_end.get());
    }
    TRY_ASSIGN(out, sys::make_pipe());
    TRY_ASSIGN(err, sys::make_pipe());
    for (const UniqueFd* end : {&out.write_end, &err.write_end}) ::fchmod(end->get(), 0666);
    request.fds.emplace_back(1, out.write_end.get());
    request.fds.emplace_back(2, err.write_end.get());
  }
  request.argv.push_back(row.id);
  // The runtime ends after it has started the process, which then becomes our child.
  if (!wanted.detach && ::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return errno_error("become a subreaper");
  mark("prepare");
  TRY_ASSIGN(Child child, spawn(request));
  TRY_ASSIGN(const int code, wait_for(child));
  out.write_end.reset();
  err.write_end.reset();
  in.read_end.reset();
  const std::string pid_file = run + "/" + short_id + ".pid";
  const auto pid_text = sys::read_file(pid_file, 64);
  ::unlink(pid_file.c_str());
  if (wanted.tty) ::unlink((run + "/" + short_id).c_str());
  if (code != 0) return start_failure(failure_text(log.get(), err.read_end.get()), wanted.cmd);
  mark("runtime exec");
  handle.pid = static_cast<int>(parse_int(pid_text.ok() ? *pid_text : "", 1, 1 << 30).value_or(0));
  if (wanted.tty) {
    TRY_ASSIGN(UniqueFd master, receive_master(listener.get()));
    if (size) {
      winsize window{};
      window.ws_row = static_cast<unsigned short>(size->height);
      window.ws_col = static_cast<unsigned short>(size->width);
      ::ioctl(master.get(), TIOCSWINSZ, &window);
    }
    if (streams) {
      if (wanted.open_stdin) handle.streams.input.reset(::fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
      handle.streams.output = std::move(master);
    }
  } else if (streams) {
    handle.streams.input = std::move(in.write_end);
    handle.streams.output = std::move(out.read_end);
    handle.streams.error = std::move(err.read_end);
  }
  if (!wanted.detach) {
    handle.exit_fd.reset(static_cast<int>(::syscall(SYS_pidfd_open, handle.pid, 0)));
    if (!handle.exit_fd) return errnof("pidfd of the process {}", handle.pid);
  }
  return handle;
}

Result<ExitInfo> EngineImpl::wait_exec(ExecHandle& handle) {
  pollfd watched = {handle.exit_fd.get(), POLLIN, 0};
  while (::poll(&watched, 1, -1) < 0) {
    if (errno != EINTR) return errno_error("wait for the process");
  }
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(handle.exit_fd.get()), &info, WEXITED) != 0) {
    return errnof("exit code of process {}", handle.pid);
  }
  ExitInfo out;
  out.code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  return out;
}

Result<void> EngineImpl::resize_exec(ExecHandle& handle, oci::Box size) {
  winsize window{};
  window.ws_row = static_cast<unsigned short>(size.height);
  window.ws_col = static_cast<unsigned short>(size.width);
  if (::ioctl(handle.streams.output.get(), TIOCSWINSZ, &window) != 0) return errno_error("resize the terminal");
  return {};
}

Result<std::vector<std::vector<std::string>>> EngineImpl::top(std::string_view ref,
                                                              const std::vector<std::string>& ps_args) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN([[maybe_unused]] const int pid, running_pid(row.id, "top"));
  TRY_ASSIGN(auto table, driver(row.isolation).top(row.id, ps_args));
  emit_workload(row, "top");
  return table;
}

}  // namespace hull::engine
