#include "sys/fd_passing.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::sys {
namespace {
constexpr size_t kMaxFds = 32;
}

Result<UniqueFd> connect_unix(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("make unix socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  UniqueFd folder;
  std::string shown = path;
  if (path.size() >= sizeof address.sun_path) {
    const size_t slash = path.rfind('/');
    TRY_ASSIGN(folder, open(slash == std::string::npos ? "." : path.substr(0, slash + 1), O_PATH | O_DIRECTORY));
    shown = fmt::format("/proc/self/fd/{}/{}", folder.get(), path.substr(slash == std::string::npos ? 0 : slash + 1));
    if (shown.size() >= sizeof address.sun_path) return Error::from_errno(ENAMETOOLONG, "socket " + path);
  }
  std::memcpy(address.sun_path, shown.c_str(), shown.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errnof("connect to {}", path);
  }
  return socket;
}

Result<void> send_fds(int socket, std::string_view text, const std::vector<int>& fds) {
  if (fds.size() > kMaxFds || text.empty()) return errorf(ErrorKind::kInternal, "send {} descriptors", fds.size());
  iovec data{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno_error("send descriptors");
  if (static_cast<size_t>(sent) < text.size()) return write_all(socket, text.substr(static_cast<size_t>(sent)));
  return {};
}

Result<ReceivedFds> receive_fds(int socket) {
  ReceivedFds received;
  std::array<char, 4096> text{};
  iovec data{text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno_error("receive descriptors");
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  received.text.assign(text.data(), static_cast<size_t>(got));
  return received;
}

}  // namespace hull::sys
