#pragma once
// Programs that a monitor starts beside the workload.

#include <sys/types.h>

namespace hull::engine::monitor {

/// Starts a program that is not waited for here, with nothing but /dev/null and, as working folder, `folder_fd` (-1:
/// the monitor's). Its number, or -1. SIGCHLD tells of its end.
pid_t run_aside(const char* program, const char* const argv[], int folder_fd = -1);

}  // namespace hull::engine::monitor
