#include "engine/monitor/clients.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

namespace hull::engine::monitor {

int receive(int socket, Message* message, int fds[3], int* fd_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))];
  iovec part = {message, sizeof *message};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  *fd_count = 0;
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN ? -1 : 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && *fd_count < 3; ++i) {
      memcpy(&fds[*fd_count], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      ++*fd_count;
    }
  }
  if (got != static_cast<ssize_t>(sizeof *message) || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    for (int i = 0; i < *fd_count; ++i) ::close(fds[i]);
    *fd_count = 0;
    return 0;
  }
  return 1;
}

bool send(int socket, const Message& message) {
  ssize_t put = -1;
  do {
    put = ::send(socket, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  return put == static_cast<ssize_t>(sizeof message);
}

int64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace hull::engine::monitor
