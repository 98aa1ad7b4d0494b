// The workload's processes: create, start, exec, and what is done to them.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "guest/agent.h"
#include "guest/own_devices.h"
#include "runtime/user_lookup.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"
#include "sys/root.h"

namespace hull::guest {
namespace {

constexpr uint32_t kMaxTerminalSide = 65535;

int64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

Result<void> check_streams(const proto::Streams& streams) {
  const bool any = streams.stdin() || streams.stdout() || streams.stderr();
  if (any && !StreamHub::valid_token(streams.token())) {
    return errorf(ErrorKind::kInvalid, "the token of the streams is not 8 to 64 hexadecimal digits");
  }
  if (streams.terminal() && (!streams.stdout() || streams.stderr())) {
    return errorf(ErrorKind::kInvalid, "a terminal has the streams 0 and 1, and 1 is needed");
  }
  return {};
}

std::optional<oci::Box> box_of(const proto::Size& size) {
  if (size.rows() == 0 || size.columns() == 0) return std::nullopt;
  return oci::Box{std::min(size.rows(), kMaxTerminalSide), std::min(size.columns(), kMaxTerminalSide)};
}

void set_size(int terminal, const proto::Size& size) {
  winsize window{};
  window.ws_row = static_cast<unsigned short>(std::min(size.rows(), kMaxTerminalSide));
  window.ws_col = static_cast<unsigned short>(std::min(size.columns(), kMaxTerminalSide));
  ::ioctl(terminal, TIOCSWINSZ, &window);
}

/// Puts who `text` means into the process. `root` is the workload's.
Result<void> apply_user(const proto::UserText& text, const std::string& root_path, oci::Process& process) {
  if (!text.set()) return {};
  TRY_ASSIGN(const sys::Root root, sys::Root::open(root_path));
  const std::vector<std::string> groups(text.groups_add().begin(), text.groups_add().end());
  TRY_ASSIGN(const runtime::ResolvedUser user, runtime::resolve_user(root, text.user(), groups));
  process.user.uid = user.uid;
  process.user.gid = user.gid;
  process.user.additional_gids = user.additional_gids;
  const bool has_home = std::any_of(process.env.begin(), process.env.end(),
                                    [](const std::string& entry) { return entry.starts_with("HOME="); });
  if (text.set_home() && !has_home) process.env.push_back("HOME=" + user.home);
  return {};
}

Result<UniqueFd> listen_at(const std::string& path) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_error("make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return errorf(ErrorKind::kInvalid, "{}: the name is too long", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 1) != 0) {
    return errnof("listen at {}", path);
  }
  return listener;
}

Result<uint32_t> take_pid(const std::string& pid_file) {
  const auto text = sys::read_file(pid_file, 64);
  ::unlink(pid_file.c_str());
  if (!text.ok()) return errorf(ErrorKind::kInternal, "the runtime left no pid file");
  TRY_ASSIGN(const int64_t pid, parse_int(*text, 1, INT32_MAX));
  return static_cast<uint32_t>(pid);
}

uint32_t pid_of(const std::string& text) { return static_cast<uint32_t>(parse_int(text, 1, INT32_MAX).value_or(0)); }

}  // namespace

// ---- Streams ----

Result<Agent::ChildStdio> Agent::make_stdio(const proto::Streams& wanted, Member& member, std::string& console_socket) {
  TRY(check_streams(wanted));
  if (!wanted.token().empty() && streams_.has(wanted.token())) {
    return errorf(ErrorKind::kExists, "the token of the streams is in use");
  }
  member.token = wanted.token();
  ChildStdio stdio;
  if (wanted.terminal()) {
    console_socket = console_path(member);
    TRY_ASSIGN(member.console, listen_at(console_socket));
    return stdio;
  }
  const bool exists[3] = {wanted.stdin(), wanted.stdout(), wanted.stderr()};
  for (int number = 0; number < 3; ++number) {
    if (!exists[number]) continue;
    TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
    UniqueFd& theirs = number == 0 ? pipe.read_end : pipe.write_end;
    UniqueFd& ours = number == 0 ? pipe.write_end : pipe.read_end;
    // The program writes as whom the image says: it must be able to open /dev/stdout, which is this pipe.
    ::fchmod(theirs.get(), 0666);
    auto added = streams_.add(member.token, number, std::move(ours));
    if (!added.ok()) {
      streams_.drop(member.token);
      return std::move(added).error();
    }
    stdio.ends[number] = std::move(theirs);
  }
  return stdio;
}

std::string Agent::console_path(const Member& member) const {
  return fmt::format("{}/console-{}", options_.run_dir, member.order);
}

/// What a process that did not come to be would leave.
void Agent::abandon(Member& member) {
  if (!member.token.empty()) streams_.drop(member.token);
  if (member.console) ::unlink(console_path(member).c_str());
  member.console.reset();
}

/// The runtime has sent the terminal's master before it ended.
Result<void> Agent::take_terminal(const proto::Streams& wanted, Member& member) {
  const UniqueFd listener = std::move(member.console);
  ::unlink(console_path(member).c_str());
  const UniqueFd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return errno_error("accept the terminal");
  TRY_ASSIGN(sys::ReceivedFds received, sys::receive_fds(peer.get()));
  if (received.fds.size() != 1) return errorf(ErrorKind::kInternal, "the runtime sent no terminal");
  member.terminal = std::move(received.fds[0]);
  if (box_of(wanted.size())) set_size(member.terminal.get(), wanted.size());
  for (int number = 0; number < 2; ++number) {
    if (number == 0 && !wanted.stdin()) continue;
    UniqueFd copy(::fcntl(member.terminal.get(), F_DUPFD_CLOEXEC, 3));
    if (!copy) return errno_error("copy the terminal");
    TRY(streams_.add(member.token, number, std::move(copy)));
  }
  return {};
}

Result<void> Agent::adopt(Member& member, const proto::Streams& wanted, uint32_t pid) {
  member.pid = static_cast<pid_t>(pid);
  const std::string exec_id = member.exec_id;
  loop_.on_exit(member.pid,
                [this, exec_id, pid](int status) { on_member_exit(exec_id, static_cast<pid_t>(pid), status); });
  if (wanted.terminal()) return take_terminal(wanted, member);
  return {};
}

// ---- Create and start ----

Result<oci::Spec> Agent::prepare_spec(const proto::CreateRequest& request) const {
  if (!runtime::valid_id(request.id())) return errorf(ErrorKind::kInvalid, "invalid container id '{}'", request.id());
  TRY_ASSIGN(oci::Spec spec, oci::parse_spec(request.config()));
  if (!spec.process || !spec.root) return errorf(ErrorKind::kInvalid, "config.json: process or root is missing");
  if (spec.linux_config) {
    for (const oci::Namespace& space : spec.linux_config->namespaces) {
      if (space.type == oci::NamespaceType::kNetwork) {
        return errorf(ErrorKind::kInvalid, "config.json: a network namespace inside the machine would have no network");
      }
    }
  }
  add_own_devices("/dev", &spec);
  spec.process->terminal = request.streams().terminal();
  spec.process->console_size = box_of(request.streams().size());
  return spec;
}

void Agent::create(const proto::CreateRequest& request, Reply reply) {
  if (!id_.empty()) return reply(errorf(ErrorKind::kConflict, "the guest has a container already"));
  auto begun = begin_create(request, reply);
  if (begun.ok()) return;
  const auto first = members_.find("");
  if (first != members_.end()) {
    abandon(first->second);
    members_.erase(first);
  }
  id_.clear();
  reply(std::move(begun).error());
}

Result<void> Agent::begin_create(const proto::CreateRequest& request, const Reply& reply) {
  TRY_ASSIGN(oci::Spec spec, prepare_spec(request));
  const std::string bundle = options_.run_dir + "/bundle";
  TRY(sys::make_dirs(bundle));
  id_ = request.id();
  root_path_ = spec.root->path.starts_with('/') ? spec.root->path : bundle + "/" + spec.root->path;
  Member& member = members_[""];
  member.order = next_order_++;
  runtime::CreateOptions options;
  options.id = id_;
  options.bundle = bundle;
  options.pid_file = options_.run_dir + "/init.pid";
  TRY_ASSIGN(const ChildStdio stdio, make_stdio(request.streams(), member, options.console_socket));
  const auto body = [this, spec, options, user = request.user()]() mutable -> Result<std::string> {
    TRY(apply_user(user, root_path_, *spec.process));
    TRY(sys::replace_file(options.bundle + "/config.json", oci::to_json(spec), 0600, false));
    TRY(runtime_.create(options));
    TRY_ASSIGN(const uint32_t pid, take_pid(options.pid_file));
    return std::to_string(pid);
  };
  CommandOptions command;
  command.stdio = stdio.numbers();
  command.log_fd = options_.log_fd;
  const auto done = [this, reply, wanted = request.streams()](Result<std::string> outcome) {
    Member& first = members_[""];
    Result<void> adopted;
    if (outcome.ok()) adopted = adopt(first, wanted, pid_of(*outcome));
    if (!outcome.ok() || !adopted.ok()) {
      abandon(first);
      if (outcome.ok()) ignore_result(runtime_.remove(id_, true));
      if (first.pid == 0) members_.erase("");
      id_.clear();
      return reply(outcome.ok() ? std::move(adopted).error() : std::move(outcome).error());
    }
    created_ = true;
    memory_cgroup_ = runtime_.cgroup_folder(id_, "memory").value_or("");
    proto::CreateResponse response;
    response.set_pid(static_cast<uint32_t>(first.pid));
    reply(response.SerializeAsString());
  };
  TRY(run_command(loop_, command, body, done));
  return {};
}

void Agent::start(const proto::StartRequest& /*request*/, Reply reply) {
  auto ready = require_created();
  if (!ready.ok()) return reply(std::move(ready).error());
  const auto body = [this]() -> Result<std::string> {
    TRY(runtime_.start(id_));
    return proto::StartResponse().SerializeAsString();
  };
  CommandOptions command;
  command.log_fd = options_.log_fd;
  auto begun = run_command(loop_, command, body, reply);
  if (!begun.ok()) reply(std::move(begun).error());
}

// ---- Exec ----

void Agent::forget_old_execs() {
  while (members_.size() > kMaxExecs) {
    auto oldest = members_.end();
    for (auto it = members_.begin(); it != members_.end(); ++it) {
      if (it->first.empty() || !it->second.exited) continue;
      if (oldest == members_.end() || it->second.order < oldest->second.order) oldest = it;
    }
    if (oldest == members_.end()) return;
    streams_.drop_unopened(oldest->second.token);
    members_.erase(oldest);
  }
}

void Agent::exec(const proto::ExecRequest& request, Reply reply) {
  const std::string& exec_id = request.exec_id();
  forget_old_execs();
  auto ready = require_created();
  if (!ready.ok()) return reply(std::move(ready).error());
  constexpr size_t kLongestId = 1024;
  if (exec_id.empty() || exec_id.size() > kLongestId) return reply(errorf(ErrorKind::kInvalid, "invalid exec id"));
  if (members_.contains(exec_id)) return reply(errorf(ErrorKind::kExists, "exec {} exists already", exec_id));
  if (members_.size() > kMaxExecs) return reply(errorf(ErrorKind::kNoSpace, "too many processes by exec"));
  auto begun = begin_exec(request, reply);
  if (begun.ok()) return;
  const auto member = members_.find(exec_id);
  if (member != members_.end()) {
    abandon(member->second);
    members_.erase(member);
  }
  reply(std::move(begun).error());
}

Result<void> Agent::begin_exec(const proto::ExecRequest& request, const Reply& reply) {
  runtime::ExecOptions options;
  TRY_ASSIGN(options.process, oci::parse_process(request.process()));
  options.process.terminal = request.streams().terminal();
  options.process.console_size = box_of(request.streams().size());
  options.detach = true;
  options.ignore_paused = request.ignore_paused();
  const std::string exec_id = request.exec_id();
  Member& member = members_[exec_id];
  member.exec_id = exec_id;
  member.order = next_order_++;
  member.oom_before = oom_kills();
  options.pid_file = fmt::format("{}/exec-{}.pid", options_.run_dir, member.order);
  TRY_ASSIGN(const ChildStdio stdio, make_stdio(request.streams(), member, options.console_socket));
  const pid_t first = members_[""].pid;
  const auto body = [this, options, first, user = request.user()]() mutable -> Result<std::string> {
    // The files as the workload has them now, with its mounts.
    TRY(apply_user(user, fmt::format("/proc/{}/root", first), options.process));
    TRY(runtime_.exec(id_, options));
    TRY_ASSIGN(const uint32_t pid, take_pid(options.pid_file));
    return std::to_string(pid);
  };
  CommandOptions command;
  command.stdio = stdio.numbers();
  command.log_fd = options_.log_fd;
  const auto done = [this, exec_id, reply, wanted = request.streams()](Result<std::string> outcome) {
    Member& started = members_[exec_id];
    Result<void> adopted;
    if (outcome.ok()) adopted = adopt(started, wanted, pid_of(*outcome));
    if (!outcome.ok() || !adopted.ok()) {
      abandon(started);
      if (started.pid > 0) ::kill(started.pid, SIGKILL);
      members_.erase(exec_id);
      return reply(outcome.ok() ? std::move(adopted).error() : std::move(outcome).error());
    }
    proto::ExecResponse response;
    response.set_pid(static_cast<uint32_t>(started.pid));
    reply(response.SerializeAsString());
  };
  TRY(run_command(loop_, command, body, done));
  return {};
}

// ---- The end of a process ----

/// Processes of the workload that the kernel has killed for want of memory, so far.
uint64_t Agent::oom_kills() const {
  if (memory_cgroup_.empty()) return 0;
  const std::string text = sys::read_file(memory_cgroup_ + "/memory.events", 4096).value_or("");
  constexpr std::string_view kName = "oom_kill ";
  const size_t at = text.find(kName);
  if (at == std::string::npos) return 0;
  const std::string_view rest = std::string_view(text).substr(at + kName.size());
  return static_cast<uint64_t>(parse_int(rest.substr(0, rest.find('\n')), 0, INT64_MAX).value_or(0));
}

namespace {

std::string exit_answer(int wait_status, bool oom_killed, int64_t exited_ns) {
  proto::WaitResponse response;
  response.set_exit_code(sys::exit_code(wait_status));
  response.set_signal(WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0);
  response.set_oom_killed(oom_killed);
  response.set_exited_ns(exited_ns);
  return response.SerializeAsString();
}

}  // namespace

void Agent::on_member_exit(const std::string& exec_id, pid_t pid, int wait_status) {
  const auto found = members_.find(exec_id);
  if (found == members_.end() || found->second.pid != pid) return;
  Member& member = found->second;
  member.exited = true;
  member.wait_status = wait_status;
  member.exited_ns = realtime_ns();
  const uint64_t kills = oom_kills();
  // For the first process: any of the workload's. For another one: it itself may have been the one.
  member.oom_killed = exec_id.empty()
                          ? kills > 0
                          : kills > member.oom_before && WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;
  member.terminal.reset();
  const std::vector<Reply> waiters = std::move(member.waiters);
  const std::string answer = exit_answer(wait_status, member.oom_killed, member.exited_ns);
  for (const Reply& reply : waiters) reply(answer);
}

void Agent::wait(const proto::WaitRequest& request, Reply reply) {
  auto found = find(request.exec_id());
  if (!found.ok()) return reply(std::move(found).error());
  Member& member = **found;
  if (member.exited) return reply(exit_answer(member.wait_status, member.oom_killed, member.exited_ns));
  constexpr size_t kMaxWaiters = 256;
  if (member.waiters.size() >= kMaxWaiters) return reply(errorf(ErrorKind::kNoSpace, "too many wait for this process"));
  member.waiters.push_back(std::move(reply));
}

// ---- What is done to processes ----

Result<Agent::Member*> Agent::find(const std::string& exec_id) {
  TRY(require_created());
  const auto found = members_.find(exec_id);
  if (found == members_.end() || found->second.pid == 0) {
    return errorf(ErrorKind::kNotFound, "no such process: {}", exec_id);
  }
  return &found->second;
}

void Agent::signal(const proto::SignalRequest& request, Reply reply) {
  const auto send = [&]() -> Result<void> {
    TRY_ASSIGN(const Member* const member, find(request.exec_id()));
    if (request.signal() < 0 || request.signal() >= NSIG) {
      return errorf(ErrorKind::kInvalid, "unknown signal {}", request.signal());
    }
    if (request.all() || request.exec_id().empty()) return runtime_.kill(id_, request.signal(), request.all());
    if (member->exited) return errorf(ErrorKind::kConflict, "process {} has ended", request.exec_id());
    // Nobody but us reaps it, so the pid is still its own.
    if (::kill(member->pid, request.signal()) != 0) return errno_error("signal the process");
    return {};
  };
  auto sent = send();
  if (!sent.ok()) return reply(std::move(sent).error());
  reply(proto::SignalResponse().SerializeAsString());
}

void Agent::resize(const proto::ResizeRequest& request, Reply reply) {
  auto found = find(request.exec_id());
  if (!found.ok()) return reply(std::move(found).error());
  if (!(*found)->terminal) return reply(errorf(ErrorKind::kConflict, "the process has no terminal"));
  set_size((*found)->terminal.get(), request.size());
  reply(proto::ResizeResponse().SerializeAsString());
}

void Agent::close_stdin(const proto::CloseStdinRequest& request, Reply reply) {
  auto found = find(request.exec_id());
  if (!found.ok()) return reply(std::move(found).error());
  if (!(*found)->token.empty()) streams_.close_input_after((*found)->token, request.after_bytes());
  reply(proto::CloseStdinResponse().SerializeAsString());
}

}  // namespace hull::guest
