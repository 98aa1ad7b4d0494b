#include "engine/monitor/start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

bool fail(Message* failure, const char* what, int error) {
  Text<sizeof failure->text> text;
  text.add("monitor: ").add(what);
  if (error != 0) text.add(": ").add(strerrordesc_np(error));
  memcpy(failure->text, text.c_str(), text.size() + 1);
  failure->a = error;
  return false;
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

/// What the runtime told: the last "msg" of its JSON log, else what it wrote to standard error.
void read_failure(int error_pipe, Message* failure) {
  static char log[16 * 1024];
  size_t used = 0;
  const int fd = ::openat(kRunFd, "runtime.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0) {
    const off_t size = ::lseek(fd, 0, SEEK_END);
    if (size > static_cast<off_t>(sizeof log - 1))
      ::lseek(fd, size - static_cast<off_t>(sizeof log - 1), SEEK_SET);
    else
      ::lseek(fd, 0, SEEK_SET);
    ssize_t got = 0;
    while ((got = ::read(fd, log + used, sizeof log - 1 - used)) > 0) used += static_cast<size_t>(got);
    ::close(fd);
  }
  log[used] = 0;
  Text<sizeof failure->text> text;
  const char* message = nullptr;
  for (const char* at = log; (at = strstr(at, "\"msg\":\"")) != nullptr; at += 7) message = at + 7;
  if (message != nullptr) {
    for (; *message != 0 && *message != '"'; ++message) {
      if (*message == '\\' && message[1] != 0) {
        ++message;
        const char plain = *message == 'n' ? '\n' : *message == 't' ? '\t' : *message;
        text.add(&plain, 1);
      } else {
        text.add(message, 1);
      }
    }
  } else if (error_pipe >= 0) {
    ssize_t got = ::read(error_pipe, log, sizeof log - 1);  // non-blocking
    while (got > 0 && (log[got - 1] == '\n' || log[got - 1] == '\r')) --got;
    if (got > 0) text.add(log, static_cast<unsigned long>(got));
  }
  if (text.size() == 0) text.add("the runtime failed and said nothing");
  memcpy(failure->text, text.c_str(), text.size() + 1);
}

/// Takes the terminal's master from the console socket; the runtime has sent it before it ended.
int receive_console(int listener) {
  const int peer = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (peer < 0) return -1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  char data[256];
  iovec part = {data, sizeof data};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  int master = -1;
  if (::recvmsg(peer, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) >= 0) {
    const cmsghdr* c = CMSG_FIRSTHDR(&header);
    if (c != nullptr && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int))) {
      memcpy(&master, CMSG_DATA(c), sizeof master);
    }
  }
  ::close(peer);
  return master;
}

int listen_for_console() {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return -1;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, "console");  // the working folder is the run folder
  ::unlinkat(kRunFd, "console", 0);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(listener, 1) != 0) {
    ::close(listener);
    return -1;
  }
  return listener;
}

/// Waits for the command, also when nobody waits for the workload any more: killed in the middle it would leave
/// control groups and a record half made.
int await_command(pid_t pid) {
  int status = -1;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

pid_t read_pid() {
  char text[32] = {};
  const int fd = ::openat(kRunFd, "init.pid", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -1;
  const ssize_t got = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  return got > 0 ? static_cast<pid_t>(strtol(text, nullptr, 10)) : -1;
}

}  // namespace

bool create_workload(const Options& options, Stdio* stdio, pid_t* init, Message* failure) {
  int theirs[3] = {-1, -1, -1};
  int listener = -1;
  int pair[2];
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null_fd < 0) return fail(failure, "open /dev/null", errno);
  theirs[0] = theirs[1] = null_fd;
  if (options.tty) {
    listener = listen_for_console();
    if (listener < 0) return fail(failure, "listen on the console socket", errno);
  } else {
    if (options.open_stdin) {
      if (::pipe2(pair, O_CLOEXEC) != 0) return fail(failure, "make a pipe", errno);
      theirs[0] = pair[0];
      stdio->input = pair[1];
    }
    if (::pipe2(pair, O_CLOEXEC) != 0) return fail(failure, "make a pipe", errno);
    theirs[1] = pair[1];
    stdio->output[0] = pair[0];
    // The program writes as whom the image says: it must be able to open /dev/stdout, which is this pipe.
    ::fchmod(pair[1], 0666);
  }
  if (::pipe2(pair, O_CLOEXEC) != 0) return fail(failure, "make a pipe", errno);
  theirs[2] = pair[1];
  stdio->output[1] = pair[0];
  ::fchmod(pair[1], 0666);
  for (const int fd : {stdio->input, stdio->output[0], stdio->output[1]}) {
    if (fd >= 0) set_nonblocking(fd);
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  for (int i = 0; i < 3; ++i) posix_spawn_file_actions_adddup2(&actions, theirs[i], i);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, options.create_argv[0], &actions, &attributes, options.create_argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  for (int i = 0; i < 3; ++i) {
    if (theirs[i] != null_fd) ::close(theirs[i]);
  }
  ::close(null_fd);
  if (error != 0) return fail(failure, options.create_argv[0], error);

  const int status = await_command(pid);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    read_failure(stdio->output[1], failure);
    return false;
  }
  *init = read_pid();
  if (*init <= 0) return fail(failure, "the runtime left no pid file", 0);
  if (options.tty) {
    // The pipe was for the runtime's own messages.
    ::close(stdio->output[1]);
    stdio->output[1] = -1;
    stdio->output[0] = receive_console(listener);
    ::close(listener);
    ::unlinkat(kRunFd, "console", 0);
    if (stdio->output[0] < 0) return fail(failure, "the runtime sent no terminal", 0);
    set_nonblocking(stdio->output[0]);
    stdio->input = ::fcntl(stdio->output[0], F_DUPFD_CLOEXEC, kFirstUnusedFd);
  }
  return true;
}

}  // namespace hull::engine::monitor
