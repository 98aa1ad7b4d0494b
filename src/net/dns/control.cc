#include "net/dns/control.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

namespace hull::net::dns {
namespace {

constexpr size_t kLongestText = 160 << 10;  // a record with all its names

}  // namespace

ControlHeader control_header(ControlType type, uint32_t listener, std::string_view network, std::string_view workload) {
  ControlHeader out;
  out.type = type;
  out.listener = listener;
  std::memcpy(out.network.data(), network.data(), std::min(network.size(), out.network.size() - 1));
  std::memcpy(out.workload.data(), workload.data(), std::min(workload.size(), out.workload.size() - 1));
  return out;
}

Result<void> send_control(int fd, const ControlHeader& header, std::string_view text, int udp, int tcp) {
  alignas(cmsghdr) char space[CMSG_SPACE(2 * sizeof(int))] = {};
  std::array<iovec, 2> parts{{{const_cast<ControlHeader*>(&header), sizeof header},  // NOLINT: sendmsg does not write
                              {const_cast<char*>(text.data()), text.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (udp >= 0) {
    const std::array<int, 2> fds{udp, tcp};
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    std::memcpy(CMSG_DATA(c), fds.data(), sizeof fds);
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno_error("tell the worker").as(ErrorKind::kUnavailable);
  return {};
}

Result<ControlMessage> receive_control(int fd) {
  ControlMessage out;
  out.text.resize(kLongestText);
  alignas(cmsghdr) char space[CMSG_SPACE(2 * sizeof(int))] = {};
  std::array<iovec, 2> parts{{{&out.header, sizeof out.header}, {out.text.data(), out.text.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  ssize_t got = -1;
  do {
    got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return errno_error("no message").as(ErrorKind::kConflict);
  if (got < 0) return errno_error("receive from the keeper").as(ErrorKind::kUnavailable);
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(2 * sizeof(int))) continue;
    std::array<int, 2> fds{};
    std::memcpy(fds.data(), CMSG_DATA(c), sizeof fds);
    out.udp.reset(fds[0]);
    out.tcp.reset(fds[1]);
  }
  if (static_cast<size_t>(got) < sizeof out.header || (message.msg_flags & MSG_TRUNC) != 0) {
    return Error(ErrorKind::kUnavailable, "the keeper is gone");
  }
  out.text.resize(static_cast<size_t>(got) - sizeof out.header);
  out.header.network.back() = out.header.workload.back() = '\0';
  return out;
}

}  // namespace hull::net::dns
