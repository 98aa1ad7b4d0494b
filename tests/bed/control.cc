// control SOCKET METHOD PATH [BODY [FILE | fd:N]...]: one request to hull-vmm's control socket, with files (opened for
// reading and writing where that is allowed) or inherited descriptors passed along. Prints the status and the answer's
// body. For the bed, where busybox has no client for unix sockets.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {
int open_argument(const char* text) {
  if (std::strncmp(text, "fd:", 3) == 0) return std::atoi(text + 3);
  const int fd = ::open(text, O_RDWR | O_CLOEXEC);
  return fd >= 0 ? fd : ::open(text, O_RDONLY | O_CLOEXEC);
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0 || ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    std::perror(argv[1]);
    return 1;
  }
  const std::string body = argc > 4 ? argv[4] : "";
  std::string request = std::string(argv[2]) + " " + argv[3] +
                        " HTTP/1.1\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                        "\r\n\r\n" + body;
  int fds[8];
  int count = 0;
  for (int i = 5; i < argc && count < 8; ++i) {
    fds[count] = open_argument(argv[i]);
    if (fds[count++] < 0) {
      std::perror(argv[i]);
      return 1;
    }
  }
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
  iovec part{request.data(), request.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(static_cast<size_t>(count) * sizeof(int));
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(static_cast<size_t>(count) * sizeof(int));
    std::memcpy(CMSG_DATA(head), fds, static_cast<size_t>(count) * sizeof(int));
  }
  if (::sendmsg(socket, &message, 0) != static_cast<ssize_t>(request.size())) {
    std::perror("send");
    return 1;
  }
  std::string answer;
  char piece[4096];
  for (ssize_t got = 0; (got = ::recv(socket, piece, sizeof(piece), 0)) > 0;) {
    answer.append(piece, static_cast<size_t>(got));
  }
  const size_t head = answer.find("\r\n\r\n");
  std::printf("%s %s\n", answer.substr(9, 3).c_str(), head == std::string::npos ? "" : answer.c_str() + head + 4);
  return 0;
}
