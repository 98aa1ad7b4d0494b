#pragma once
// The process that owns one running workload. It keeps the workload's stdio, writes its log, serves clients that
// attach, and records how it ended. It holds no other state: kill -9 of it loses at most what was in its pipes, and
// the next command cleans up.
//
// Static memory only, no heap, no iostream: the private memory of a monitor is a few hundred KiB however long it runs.

#include <cstdint>

namespace hull::engine::monitor {

struct Options {
  const char* id = nullptr;
  const char* log_name = nullptr;  // in the data folder; null: no log
  int64_t log_max_size = -1;
  int log_max_files = 1;
  int keep_fds = 0;  // descriptors after kListenFd to keep open as long as the workload lives (published ports)
  bool tty = false;
  bool open_stdin = false;
  bool stdin_once = false;                // the end of a client's input closes the workload's
  const char* oom_file = nullptr;         // memory.events or memory.oom_control of the workload's cgroup
  const char* cleanup_program = nullptr;  // executed as `PROGRAM internal cleanup ID` at the end; null: nothing
  char* const* create_argv = nullptr;     // the runtime's create command
};

/// Reads the arguments after the program name; false (and a message on standard error) when they make no sense.
bool parse_options(int argc, char** argv, Options* options);

/// Runs until the workload has ended and what it wrote has been taken. Descriptors as protocol.h lists them.
int run(const Options& options);

}  // namespace hull::engine::monitor
