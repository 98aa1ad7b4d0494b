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
  bool restarts = false;  // only as told by a monitor: it starts the workload again
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
  /// It was to start again, and nobody is left who would do it.
  bool restart_lost = false;
};

/// What a monitor leaves in the run folder before it waits to start a workload again.
struct RestartRecord {
  int64_t started_ns = 0;  // of the run that ended: names it
  int count = 0;           // of the restart that follows
  int64_t delay_ms = 0;    // before it
};
std::optional<RestartRecord> read_restart(const Paths& paths, std::string_view id);

/// That somebody stopped the workload, so that no policy starts it again. `for_good`: kept over boots, until it is
/// started by hand; otherwise for this run.
Result<void> mark_stopped(const Paths& paths, std::string_view id, bool for_good);
bool was_stopped(const Paths& paths, std::string_view id);
/// How often its policy has started it since it was started by hand.
int restart_count(const Paths& paths, std::string_view id);
Result<void> set_restart_count(const Paths& paths, std::string_view id, int count);
/// Started by hand: neither mark nor count.
void forget_restarts(const Paths& paths, std::string_view id);

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
