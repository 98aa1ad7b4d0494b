#include "engine/monitor_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "engine/monitor/restart.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using monitor::Message;
using monitor::MessageType;

/// A unix address through a descriptor of the folder: run folders may be longer than sun_path.
sockaddr_un address_in(int dir_fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/attach", dir_fd);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

Result<MonitorConnection> launch_monitor(const Paths& paths, const MonitorRequest& request, UniqueFd lock) {
  TRY_ASSIGN(const UniqueFd run_dir, sys::open(paths.run_of(request.id), O_RDONLY | O_DIRECTORY));
  TRY_ASSIGN(const UniqueFd data_dir, sys::open(paths.workload(request.id), O_RDONLY | O_DIRECTORY));
  const UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_error("make the attach socket");
  const sockaddr_un address = address_in(run_dir.get());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 16) != 0) {
    return errnof("listen on the attach socket of {}", request.id);
  }
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("make a socket pair");
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);

  SpawnRequest spawn_request;
  spawn_request.argv.push_back(request.program);
  spawn_request.argv.insert(spawn_request.argv.end(), request.arguments.begin(), request.arguments.end());
  if (!request.held.empty()) {
    spawn_request.argv.emplace_back("--keep-fds");
    spawn_request.argv.push_back(fmt::format("{}", request.held.size()));
  }
  spawn_request.argv.emplace_back("--");
  spawn_request.argv.insert(spawn_request.argv.end(), request.create_argv.begin(), request.create_argv.end());
  spawn_request.fds = {{monitor::kControlFd, theirs.get()},
                       {monitor::kLockFd, lock.get()},
                       {monitor::kRunFd, run_dir.get()},
                       {monitor::kWorkloadFd, data_dir.get()},
                       {monitor::kListenFd, listener.get()}};
  for (size_t i = 0; i < request.held.size(); ++i) {
    spawn_request.fds.emplace_back(monitor::kFirstUnusedFd + static_cast<int>(i), request.held[i]);
  }
  spawn_request.new_session = true;
  TRY_ASSIGN(const Child child, spawn(spawn_request));
  return MonitorConnection{child.pid, std::move(ours)};
}

Result<UniqueFd> connect_monitor(const Paths& paths, std::string_view id) {
  TRY_ASSIGN(const UniqueFd run_dir, sys::open(paths.run_of(id), O_PATH | O_DIRECTORY));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("make a socket");
  const sockaddr_un address = address_in(run_dir.get());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    Error error = errnof("connect to the monitor of container {}", id);
    return std::move(error).as(ErrorKind::kNotFound);
  }
  return socket;
}

Result<void> send_message(int control, const Message& message, const std::vector<int>& fds) {
  alignas(cmsghdr) char buffer[CMSG_SPACE(3 * sizeof(int))] = {};
  iovec part = {const_cast<Message*>(&message), sizeof message};  // NOLINT: sendmsg does not write
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = buffer;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t put = -1;
  do {
    put = ::sendmsg(control, &header, MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  if (put < 0) return errno_error("send to the monitor");
  return {};
}

Result<std::optional<Message>> receive_message(int control) {
  Message message;
  ssize_t got = -1;
  int resets = 0;
  // A monitor that ends without reading all that we sent resets the connection; what it had sent is still there, behind
  // the error.
  do {
    got = ::recv(control, &message, sizeof message, 0);
  } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && ++resets < 2)));
  if (got < 0 && errno != ECONNRESET) return errno_error("receive from the monitor");
  if (got != static_cast<ssize_t>(sizeof message)) return std::optional<Message>();
  message.text[sizeof message.text - 1] = 0;
  return std::optional<Message>(message);
}

Result<Attachment> request_attachment(int control, bool output, bool input, bool tty, bool primary) {
  Attachment attachment;
  Message message;
  message.type = MessageType::kAttach;
  if (primary) message.flags |= monitor::kAttachPrimary;
  std::vector<UniqueFd> theirs;
  if (output) {
    TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
    message.flags |= monitor::kAttachOutput;
    attachment.output = std::move(pipe.read_end);
    theirs.push_back(std::move(pipe.write_end));
    if (!tty) {
      TRY_ASSIGN(sys::Pipe errors, sys::make_pipe());
      message.flags |= monitor::kAttachError;
      attachment.error = std::move(errors.read_end);
      theirs.push_back(std::move(errors.write_end));
    }
  }
  if (input) {
    TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
    message.flags |= monitor::kAttachInput;
    attachment.input = std::move(pipe.write_end);
    theirs.push_back(std::move(pipe.read_end));
  }
  std::vector<int> fds;
  fds.reserve(theirs.size());
  for (const UniqueFd& fd : theirs) fds.push_back(fd.get());
  TRY(send_message(control, message, fds));
  attachment.control.reset(::fcntl(control, F_DUPFD_CLOEXEC, 3));
  if (!attachment.control) return errno_error("duplicate the control connection");
  return attachment;
}

Result<void> tell(int control, MessageType type) {
  Message message;
  message.type = type;
  return send_message(control, message);
}

namespace {

monitor::RestartRule::When restart_rule(const RestartPolicy& policy) {
  using When = monitor::RestartRule::When;
  if (!policy.restarts()) return When::kNever;
  return policy.name == "on-failure" ? When::kOnFailure : When::kAlways;
}

}  // namespace

Result<bool> change_restart_rule(int control, const RestartPolicy& policy) {
  constexpr int kPatienceMs = 5000;
  Message message;
  message.type = MessageType::kRestartRule;
  message.a = static_cast<int32_t>(restart_rule(policy));
  message.b = policy.maximum_retries;
  TRY(send_message(control, message));
  for (pollfd wait = {control, POLLIN, 0}; ::poll(&wait, 1, kPatienceMs) > 0;) {
    TRY_ASSIGN(const std::optional<Message> answer, receive_message(control));
    if (!answer || answer->type == MessageType::kUnknown) return false;
    if (answer->type == MessageType::kRestartRule) return true;
  }
  return false;
}

Result<std::optional<ExitRecord>> await_exit(int control) {
  for (;;) {
    TRY_ASSIGN(const std::optional<Message> message, receive_message(control));
    if (!message) return std::optional<ExitRecord>();
    if (message->type != MessageType::kExited) continue;
    ExitRecord record;
    record.code = message->a;
    record.signal = message->b;
    record.oom_killed = (message->flags & monitor::kExitedForMemory) != 0;
    record.restarts = (message->flags & monitor::kExitedRestarts) != 0;
    record.finished_ns = message->time_ns;
    return std::optional<ExitRecord>(record);
  }
}

}  // namespace hull::engine
