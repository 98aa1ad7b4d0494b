#pragma once
// Processes named safely: by pidfd where one is held, by pid and start time where a record must outlive us.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

/// pidfd_open(2), Linux 5.3. kNotFound when there is no such process.
Result<UniqueFd> pidfd_open(pid_t pid);
/// pidfd_send_signal(2), Linux 5.1. kNotFound when it has ended.
Result<void> pidfd_signal(int pidfd, int signal);

/// A process's state letter and start time in clock ticks since boot (/proc/PID/stat, fields 3 and 22): a pid with
/// its start time is never reused within a boot.
struct ProcessStat {
  char state = '?';
  uint64_t start_time = 0;
  bool kernel_thread = false;
};
/// Nothing when there is no such process.
std::optional<ProcessStat> process_stat(pid_t pid);
/// True when the process lives and is neither a zombie nor another one that got the same pid.
bool is_alive(pid_t pid, uint64_t start_time);

/// Exit code from a wait status: the program's own, 128+signal when killed.
int exit_code(int wait_status);

}  // namespace hull::sys
