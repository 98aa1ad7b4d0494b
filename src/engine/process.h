#pragma once
// Starting programs, vfork-style (posix_spawn), and waiting for them on descriptors.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::engine {

struct SpawnRequest {
  std::vector<std::string> argv;  // argv[0] is the path
  /// Descriptors that the program gets, by number: {3, fd}. 0, 1 and 2 are /dev/null unless given or inherited.
  std::vector<std::pair<int, int>> fds;
  std::string working_dir;  // "": the caller's
  bool inherit_stderr = false;
  bool new_session = false;
  /// Execute argv[0] from a read-only, detached copy of its own mount where that can be had. hull-oci would make one
  /// and execute itself again (runtime/safe_exe.h); found in one it doesn't.
  bool read_only_program = false;
};

struct Child {
  pid_t pid = -1;
  UniqueFd pidfd;
};

/// kNotFound and kPermission tell of argv[0]. The child has default signal handling and an empty mask.
Result<Child> spawn(const SpawnRequest& request);

/// Waits for the end; returns the exit code, or 128 + signal.
Result<int> wait_for(Child& child);

struct Captured {
  int code = 0;
  std::string output, error;
};
/// Runs to the end; at most `limit` bytes of each stream are kept.
Result<Captured> capture(std::vector<std::string> argv, size_t limit = 4 << 20);

/// Field 22 of /proc/PID/stat: when the process began, in clock ticks since boot; 0 when there is no such process or it
/// is a zombie. With the pid it names a process for good.
uint64_t process_start_time(pid_t pid);

int64_t now_ns();

}  // namespace hull::engine
