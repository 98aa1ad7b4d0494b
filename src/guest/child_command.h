#pragma once
// A piece of work in a process of its own. Create and exec of the runtime library clone their caller; and whatever the
// workload could make slow (its file systems, its memory, its frozen processes) must not hold up the agent.

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "base/error.h"
#include "guest/event_loop.h"

namespace hull::guest {

/// What the process does; the text travels back.
using CommandBody = std::function<Result<std::string>()>;
using CommandDone = std::function<void(Result<std::string>)>;

struct CommandOptions {
  std::array<int, 3> stdio = {-1, -1, -1};  ///< standard streams of the process; -1: /dev/null
  int log_fd = 2;                           ///< gets its warnings
  std::optional<std::chrono::nanoseconds> kill_after;
};

/// Forks. The child has default signals, no descriptor but those named, runs `body` and ends. `done` is called from the
/// loop with the outcome; until it returns, the loop keeps the ends of processes that it does not know yet.
/// Returns the child's pid, which is its own until `done` is called.
Result<pid_t> run_command(EventLoop& loop, const CommandOptions& options, const CommandBody& body, CommandDone done);

}  // namespace hull::guest
