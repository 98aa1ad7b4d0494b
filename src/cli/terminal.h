#pragma once
// The caller's terminal.

#include <termios.h>

#include <optional>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::cli {

std::optional<oci::Box> terminal_size(int fd);

/// Puts a terminal into raw mode (what is typed goes to the workload as it is) and back again when it goes out of
/// scope, whichever way.
class RawTerminal {
 public:
  static Result<RawTerminal> enter(int fd);
  RawTerminal(RawTerminal&& other) noexcept;
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal() { restore(); }
  void restore();

 private:
  RawTerminal(int fd, const termios& before) : fd_(fd), before_(before) {}
  int fd_ = -1;
  termios before_{};
};

}  // namespace hull::cli
