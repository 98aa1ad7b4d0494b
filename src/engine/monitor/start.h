#pragma once
// Executing the runtime's create command and getting at the first process.

#include <sys/types.h>

#include "engine/monitor/monitor.h"
#include "engine/monitor/protocol.h"

namespace hull::engine::monitor {

/// The monitor's ends of the workload's stdio.
struct Stdio {
  int input = -1;
  int output[2] = {-1, -1};
};

/// Makes the pipes (or the console socket), executes the command, waits for it, reads the pid file. On failure
/// `failure->text` holds what the runtime said, and false is returned.
bool create_workload(const Options& options, Stdio* stdio, pid_t* init, Message* failure);

}  // namespace hull::engine::monitor
