#include "runtime/console.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "base/error_format.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {
namespace {

/// Our terminal in raw mode, restored by the destructor.
class RawTerminal {
 public:
  RawTerminal() {
    if (::isatty(STDIN_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &saved_) != 0) return;
    termios raw = saved_;
    ::cfmakeraw(&raw);
    active_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (active_) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios saved_{};
  bool active_ = false;
};

void copy_size(int master) {
  winsize size{};
  if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row != 0) ::ioctl(master, TIOCSWINSZ, &size);
}

/// One direction of the terminal with what the other side did not take yet.
struct Flow {
  std::string pending;
  bool closed = false;
};

/// Reads once; false at the end.
bool take(int fd, Flow& flow) {
  char buffer[16384];
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  if (got > 0) flow.pending.append(buffer, static_cast<size_t>(got));
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

bool give(int fd, Flow& flow) {
  while (!flow.pending.empty()) {
    const ssize_t put = ::write(fd, flow.pending.data(), flow.pending.size());
    if (put < 0) return errno == EAGAIN || errno == EINTR;
    flow.pending.erase(0, static_cast<size_t>(put));
  }
  return true;
}

void drain(int master, Flow& output) {
  while (true) {
    pollfd ready{master, POLLIN, 0};
    if (::poll(&ready, 1, 0) <= 0 || !take(master, output)) break;
    give(STDOUT_FILENO, output);
  }
  give(STDOUT_FILENO, output);
}

/// Every signal that can be passed on, blocked and readable as a descriptor.
Result<UniqueFd> catch_signals(sigset_t* before) {
  sigset_t all;
  ::sigfillset(&all);
  for (const int kept : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGTTIN, SIGTTOU}) ::sigdelset(&all, kept);
  if (::sigprocmask(SIG_BLOCK, &all, before) != 0) return errno_error("block signals");
  UniqueFd fd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return errno_error("read signals");
  return fd;
}

}  // namespace

Result<ConsolePair> make_console_pair() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("make a socket pair");
  return ConsolePair{UniqueFd(pair[0]), UniqueFd(pair[1])};
}

Result<UniqueFd> receive_console(int socket) {
  TRY_ASSIGN(sys::ReceivedFds received, sys::receive_fds(socket));
  if (received.fds.size() != 1) return errorf(ErrorKind::kInternal, "the container sent no terminal");
  return std::move(received.fds[0]);
}

Result<int> wait_in_foreground(pid_t pid, int pidfd, int master, bool reap_others, const NotifyProxy* notify) {
  sigset_t before;
  TRY_ASSIGN(const UniqueFd signals, catch_signals(&before));
  std::optional<RawTerminal> terminal;
  Flow input;
  Flow output;
  if (master >= 0) {
    terminal.emplace();
    copy_size(master);
    ::fcntl(master, F_SETFL, O_NONBLOCK);
  } else {
    input.closed = true;
  }
  for (;;) {
    pollfd polled[5] = {{pidfd, POLLIN, 0}, {signals.get(), POLLIN, 0}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}};
    if (notify != nullptr) polled[4] = {notify->fd(), POLLIN, 0};
    if (master >= 0) {
      polled[2] = {master, static_cast<short>((output.closed ? 0 : POLLIN) | (input.pending.empty() ? 0 : POLLOUT)), 0};
      if (output.closed) polled[2].fd = -1;
      if (!input.closed && input.pending.size() < 65536) polled[3] = {STDIN_FILENO, POLLIN, 0};
    }
    if (::poll(polled, 5, -1) < 0 && errno != EINTR) return errno_error("wait for the container");
    if (polled[4].revents != 0) {
      // This process is the one that systemd knows and watches.
      TRY_ASSIGN(const bool ready, notify->pass_on(::getpid()));
      if (ready) notify = nullptr;
    }
    if (polled[1].revents != 0) {
      signalfd_siginfo info{};
      while (::read(signals.get(), &info, sizeof info) == sizeof info) {
        const auto signal = static_cast<int>(info.ssi_signo);
        if (signal == SIGWINCH && master >= 0) copy_size(master);
        if (signal == SIGCHLD) {
          // As subreaper we inherit what the container's processes leave behind.
          siginfo_t other{};
          while (reap_others && ::waitid(P_ALL, 0, &other, WEXITED | WNOHANG | WNOWAIT) == 0 && other.si_pid != 0 &&
                 other.si_pid != pid) {
            ::waitpid(other.si_pid, nullptr, WNOHANG);
            other = {};
          }
          continue;
        }
        // 32 and 33 are the C library's own.
        if (signal == SIGWINCH || signal == SIGPIPE || signal == SIGURG || signal == 32 || signal == 33) continue;
        ignore_result(sys::pidfd_signal(pidfd, signal));
      }
    }
    if ((polled[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      if (!take(master, output)) output.closed = true;
      give(STDOUT_FILENO, output);
    }
    if (polled[3].revents != 0 && !take(STDIN_FILENO, input)) {
      input.closed = true;
      input.pending += '\4';  // the end of our input is the terminal's end-of-file character
    }
    if (master >= 0 && !input.pending.empty() && !output.closed) give(master, input);
    if (polled[0].revents != 0) break;
  }
  if (master >= 0) drain(master, output);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return errnof("wait for process {}", pid);
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return sys::exit_code(status);
}

}  // namespace hull::runtime
