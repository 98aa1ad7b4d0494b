#include "vm/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error_format.h"
#include "sys/fd_passing.h"

namespace hull::vm {

Result<Pty> open_pty(const oci::Box* size) {
  Pty pty;
  pty.master.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.master) return errno_error("open a pseudo-terminal");
  if (::unlockpt(pty.master.get()) != 0) return errno_error("unlock a pseudo-terminal");
  pty.slave.reset(::ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.slave) return errno_error("open the other side of a pseudo-terminal");
  make_raw(pty.slave.get());
  if (size != nullptr) {
    winsize value{};
    value.ws_row = static_cast<unsigned short>(size->height);
    value.ws_col = static_cast<unsigned short>(size->width);
    ::ioctl(pty.master.get(), TIOCSWINSZ, &value);
  }
  return pty;
}

Result<void> send_master(const std::string& console_socket, const Pty& pty) {
  auto connected = sys::connect_unix(console_socket);
  if (!connected.ok()) return std::move(connected).error().context("console socket");
  return sys::send_fds(connected->get(), "/dev/ptmx", {pty.master.get()});
}

void make_raw(int terminal) {
  termios modes{};
  if (::tcgetattr(terminal, &modes) != 0) return;
  ::cfmakeraw(&modes);
  ::tcsetattr(terminal, TCSANOW, &modes);
}

Result<void> adopt_terminal(int slave) {
  if (::ioctl(slave, TIOCSCTTY, 0) != 0) return errno_error("take the controlling terminal");
  for (int fd = 0; fd < 3; ++fd) {
    if (::dup2(slave, fd) < 0) return errno_error("take the terminal as standard streams");
  }
  return {};
}

std::optional<oci::Box> terminal_size(int terminal) {
  winsize size{};
  if (::ioctl(terminal, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return std::nullopt;
  return oci::Box{size.ws_row, size.ws_col};
}

RawInput::RawInput() {
  if (::isatty(STDIN_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &saved_) != 0) return;
  termios raw = saved_;
  ::cfmakeraw(&raw);
  active_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

RawInput::~RawInput() {
  if (active_) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
}

Result<UniqueFd> catch_signals() {
  sigset_t all;
  ::sigfillset(&all);
  for (const int kept : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP}) ::sigdelset(&all, kept);
  if (::sigprocmask(SIG_BLOCK, &all, nullptr) != 0) return errno_error("block signals");
  UniqueFd fd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return errno_error("read signals");
  return fd;
}

bool is_for_the_guest(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGWINCH:
    case SIGPIPE:
    case SIGURG:
    case SIGTTIN:
    case SIGTTOU:
    case 32:  // the C library's own
    case 33:
      return false;
    default:
      return true;
  }
}

}  // namespace hull::vm
