#include "cli/terminal.h"

#include <sys/ioctl.h>

#include <utility>

namespace hull::cli {

std::optional<oci::Box> terminal_size(int fd) {
  winsize size{};
  if (fd < 0 || ::ioctl(fd, TIOCGWINSZ, &size) != 0) return std::nullopt;
  oci::Box box;
  box.height = size.ws_row;
  box.width = size.ws_col;
  return box;
}

Result<RawTerminal> RawTerminal::enter(int fd) {
  termios before{};
  if (::tcgetattr(fd, &before) != 0) return errno_error("read the terminal's settings");
  termios raw = before;
  ::cfmakeraw(&raw);
  // Output from other programs (a warning of ours, a shell prompt) still gets its carriage returns.
  raw.c_oflag |= OPOST;
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  if (::tcsetattr(fd, TCSANOW, &raw) != 0) return errno_error("put the terminal into raw mode");
  return RawTerminal(fd, before);
}

RawTerminal::RawTerminal(RawTerminal&& other) noexcept : fd_(std::exchange(other.fd_, -1)), before_(other.before_) {}

void RawTerminal::restore() {
  if (fd_ >= 0) ::tcsetattr(std::exchange(fd_, -1), TCSADRAIN, &before_);
}

}  // namespace hull::cli
