#pragma once
// The process that owns one running workload. It keeps the workload's stdio, writes its log, serves clients that
// attach, and records how it ended. It holds no other state: kill -9 of it loses at most what was in its pipes, and
// the next command cleans up.
//
// Static memory only, no heap, no iostream: the private memory of a monitor is a few hundred KiB however long it runs.

#include <cstdint>

#include "engine/monitor/health.h"
#include "engine/monitor/log_writer.h"
#include "engine/monitor/restart.h"

namespace hull::engine::monitor {

struct Options {
  const char* id = nullptr;
  const char* log_name = nullptr;  // in the data folder; null: no log
  LogFormat log_format = LogFormat::kJson;
  int64_t log_max_size = -1;
  int log_max_files = 1;
  const char* log_compressor = nullptr;  // executed as `PROGRAM compress-log FILE` for each rotated file
  const char* log_extra = nullptr;       // file of the run folder that goes into each record
  const char* journal = nullptr;         // path of the journal's socket; then log_name is not used
  bool log_waits = true;                 // false: a record that the journal does not take at once is dropped
  int log_buffer = 0;                    // bytes that may wait for the journal; 0: the kernel's default
  RestartRule restart;
  HealthRule health;
  /// Descriptors after kListenFd to keep open as long as the workload lives: published ports, the index of the log.
  int keep_fds = 0;
  bool tty = false;
  bool open_stdin = false;
  bool stdin_once = false;         // the end of a client's input closes the workload's
  const char* oom_file = nullptr;  // memory.events or memory.oom_control of the workload's cgroup
  /// Executed as `PROGRAM internal cleanup ID` at the end, `internal restart ID STARTED` after the back-off, and
  /// `internal health ID STATUS` when the health changes; null: nothing.
  const char* cleanup_program = nullptr;
  char* const* create_argv = nullptr;  // the runtime's create command
};

/// Reads the arguments after the program name; false (and a message on standard error) when they make no sense.
bool parse_options(int argc, char** argv, Options* options);

/// Runs until the workload has ended and what it wrote has been taken. Descriptors as protocol.h lists them.
int run(const Options& options);

}  // namespace hull::engine::monitor
