#include "cli/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace hull::cli {

Output::Output(int fd) : fd_(fd), terminal_(fd >= 0 && ::isatty(fd) == 1) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  colours_ =
      terminal_ && (no_color == nullptr || *no_color == '\0') && term != nullptr && std::string_view(term) != "dumb";
}

void Output::write(std::string_view text) {
  buffer_.append(text);
  if (fd_ >= 0 && buffer_.size() > 64 * 1024) flush();
}

void Output::flush() {
  if (fd_ < 0) return;
  std::string_view rest = buffer_;
  while (!rest.empty() && good_) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      good_ = false;
      break;
    }
    rest.remove_prefix(static_cast<size_t>(written));
  }
  buffer_.clear();
}

int Output::columns() const {
  if (!terminal_) return 0;
  winsize size{};
  if (::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace hull::cli
