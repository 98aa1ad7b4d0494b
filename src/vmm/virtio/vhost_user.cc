#include "vmm/virtio/vhost_user.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"

namespace hull::vmm::vhost_user {

namespace {

union Control {
  std::array<char, CMSG_SPACE(sizeof(int) * kMemoryRegions)> bytes;
  cmsghdr alignment;
};

void take_fds(msghdr* message, std::vector<UniqueFd>* fds) {
  for (cmsghdr* at = CMSG_FIRSTHDR(message); at != nullptr; at = CMSG_NXTHDR(message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      fds->emplace_back(fd);
    }
  }
}

// Exactly so many bytes; descriptors may come with any of them.
Result<void> read_exactly(int socket, std::span<std::byte> out, std::vector<UniqueFd>* fds, bool may_end) {
  size_t done = 0;
  while (done < out.size()) {
    Control control;
    iovec part{out.data() + done, out.size() - done};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("receive a vhost-user message");
    take_fds(&message, fds);
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds->size() > kMemoryRegions) {
      return Error(ErrorKind::kInvalid, "vhost-user message with too many descriptors");
    }
    if (got == 0 && done == 0 && may_end) return Error(ErrorKind::kNotFound, "the vhost-user peer has gone");
    if (got == 0) return Error(ErrorKind::kInvalid, "vhost-user message that ends early");
    done += static_cast<size_t>(got);
  }
  return {};
}

}  // namespace

Result<Message> receive(int socket) {
  Message message;
  TRY(read_exactly(socket, std::as_writable_bytes(std::span(&message.header, 1)), &message.fds, true));
  if ((message.header.flags & kVersionMask) != kVersion || message.header.size > kLongestPayload) {
    return errorf(ErrorKind::kInvalid, "vhost-user message {} with flags {:#x} and {} bytes", message.header.request,
                  message.header.flags, message.header.size);
  }
  message.payload.resize(message.header.size);
  TRY(read_exactly(socket, message.payload, &message.fds, false));
  return message;
}

Result<void> send(int socket, Request request, uint32_t flags, std::span<const std::byte> payload,
                  std::span<const int> fds) {
  const Header header{static_cast<uint32_t>(request), kVersion | flags, static_cast<uint32_t>(payload.size())};
  std::array<std::byte, sizeof header + kLongestPayload> bytes;
  if (payload.size() > kLongestPayload || fds.size() > kMemoryRegions) {
    return Error(ErrorKind::kInternal, "vhost-user message longer than allowed");
  }
  std::memcpy(bytes.data(), &header, sizeof header);
  std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
  Control control;
  iovec part{bytes.data(), sizeof header + payload.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno_error("send a vhost-user message");
  // The socket holds far more than one message.
  if (static_cast<size_t>(sent) != part.iov_len) return Error(ErrorKind::kIo, "vhost-user message sent in part");
  return {};
}

}  // namespace hull::vmm::vhost_user
