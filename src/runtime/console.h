#pragma once
// A container's terminal shown on ours: run and exec with a terminal in the foreground.

#include <sys/types.h>

#include "base/error.h"
#include "base/unique_fd.h"
#include "runtime/notify.h"

namespace hull::runtime {

/// A socket pair for the master: the child's end is given to the plan, ours waits for it.
struct ConsolePair {
  UniqueFd ours, childs;
};
Result<ConsolePair> make_console_pair();
/// The master that the child sent.
Result<UniqueFd> receive_console(int socket);

/// Waits for a child and returns its exit code. Signals that reach us are passed on to it. With a console (master
/// valid) our terminal is raw meanwhile, bytes go both ways and size changes follow.
/// `notify`: what the container says of its readiness is passed on meanwhile.
Result<int> wait_in_foreground(pid_t pid, int pidfd, int master, bool reap_others, const NotifyProxy* notify = nullptr);

}  // namespace hull::runtime
