#pragma once
// Writing to a program that may end early.

#include <csignal>

namespace hull::engine {

/// While it lives, a reader that ends early is an error of write(2), not the end of this process. Not for several
/// threads.
class IgnorePipeSignal {
 public:
  IgnorePipeSignal() : before_(::signal(SIGPIPE, SIG_IGN)) {}
  IgnorePipeSignal(const IgnorePipeSignal&) = delete;
  IgnorePipeSignal& operator=(const IgnorePipeSignal&) = delete;
  ~IgnorePipeSignal() { ::signal(SIGPIPE, before_); }

 private:
  void (*before_)(int);
};

}  // namespace hull::engine
