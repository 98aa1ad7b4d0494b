#pragma once
// What a workload is doing now, derived from what can't lie: the monitor's lock (the kernel drops it when the monitor
// dies), the record of the exit, and the first process with its start time.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/paths.h"

namespace hull::engine {

struct ExitRecord {
  int code = 0;
  int signal = 0;
  bool oom_killed = false;
  int64_t finished_ns = 0, started_ns = 0;
  std::string error;
};

struct RunState {
  Status status = Status::kCreated;
  int pid = 0;
  uint64_t start_time = 0;
  int64_t started_ns = 0;
  std::optional<ExitRecord> exit;  // of this run, else of the last one
  /// The run has ended (or its monitor was killed) and what it leaves was not cleaned up.
  bool needs_cleanup = false;
  /// The monitor was killed: the first process may still be there.
  bool orphaned = false;
};

/// A few system calls; never fails (a broken record counts as none).
RunState read_state(const Paths& paths, std::string_view id);

/// "pid start_time started_ns" in the run folder: written once the program runs.
Result<void> write_started(const Paths& paths, std::string_view id, int pid, int64_t started_ns);
/// The same facts kept over a boot, so that a workload that ran when the host went down is seen as ended.
Result<void> write_run_mark(const Paths& paths, std::string_view id, int64_t started_ns);
void clear_run_mark(const Paths& paths, std::string_view id);
Result<void> write_exit(const Paths& paths, std::string_view id, const ExitRecord& record);
std::optional<ExitRecord> parse_exit(std::string_view text);

/// The lock that a monitor holds as long as it lives. take: kConflict when a monitor has it.
Result<UniqueFd> take_monitor_lock(const Paths& paths, std::string_view id);
bool monitor_alive(const Paths& paths, std::string_view id);

}  // namespace hull::engine
