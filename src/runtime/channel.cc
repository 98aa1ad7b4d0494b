#include "runtime/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

#include "base/error_format.h"
#include "oci/json_writer.h"
#include "sys/fd_passing.h"

namespace hull::runtime {
namespace {

/// The listener as number `fd` of the child, sent to the agent with the container process state.
Result<void> hand_over_listener(int pidfd, uint32_t fd, const ListenerTarget& target) {
  const UniqueFd listener(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, fd, 0)));
  if (!listener) return errno_error("take the seccomp listener of the container");
  oci::JsonWriter json;
  json.object([&] {
    json.member("ociVersion", target.state.version);
    json.array("fds", [&] { json.value("seccompFd"); });
    json.member("pid", target.pid);
    json.member_opt("metadata", target.metadata);
    json.object("state", [&] {
      json.member("ociVersion", target.state.version);
      json.member("id", target.state.id);
      json.member("status", target.state.status);
      json.member("pid", target.state.pid);
      json.member("bundle", target.state.bundle);
      json.member_opt("annotations", target.state.annotations);
    });
  });
  const std::string text = std::move(json).take();
  auto sent = [&]() -> Result<void> {
    TRY_ASSIGN(const UniqueFd agent, sys::connect_unix(target.path));
    return sys::send_fds(agent.get(), text, {listener.get()});
  }();
  if (!sent.ok()) return std::move(sent).error().context("linux.seccomp.listenerPath");
  return {};
}

}  // namespace

Result<Channel> Channel::make(UniqueFd& child_end) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("make a socket pair");
  child_end.reset(pair[1]);
  return Channel(UniqueFd(pair[0]));
}

Result<std::optional<child::Report>> Channel::next() {
  child::Report report;
  ssize_t got = -1;
  do {
    got = ::recv(fd_.get(), &report, sizeof report, MSG_WAITALL);
    // "Reset" comes once, before what was sent, when the process died with an answer of ours unread.
  } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
  if (got == 0) return std::optional<child::Report>();
  if (got < 0) return errno_error("hear from the container process");
  if (got != sizeof report) return errorf(ErrorKind::kInternal, "a report of {} bytes from the container process", got);
  return std::optional<child::Report>(report);
}

Result<void> Channel::answer(char byte) {
  if (::send(fd_.get(), &byte, 1, MSG_NOSIGNAL) != 1) return errno_error("answer the container process");
  return {};
}

Result<void> follow_exec(Channel& channel, int pidfd, const ListenerTarget& target, const MessageContext& messages) {
  for (;;) {
    TRY_ASSIGN(const std::optional<child::Report> report, channel.next());
    if (!report) return {};
    if (report->kind == child::Kind::kFailed) return explain(*report, messages);
    if (report->kind == child::Kind::kListener) {
      if (target.path.empty()) {
        return errorf(ErrorKind::kInvalid, "linux.seccomp: a rule with SCMP_ACT_NOTIFY needs listenerPath");
      }
      TRY(hand_over_listener(pidfd, report->index, target));
      TRY(channel.answer());
      continue;
    }
    return errorf(ErrorKind::kInternal, "the container process reported {} out of turn",
                  static_cast<int>(report->kind));
  }
}

}  // namespace hull::runtime
