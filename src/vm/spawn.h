#pragma once
// Starting other programs: the processes of a machine, which die with it, and short helpers such as mke2fs.

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vm {

struct ProcessRequest {
  std::vector<std::string> argv;  ///< argv[0] is the program's path
  int stdout_fd = -1;             ///< -1: /dev/null
  int stderr_fd = -1;
  std::vector<int> keep_fds;    ///< inherited under their numbers, whatever their close-on-exec flag says; 3 and more
  bool die_with_parent = true;  ///< PR_SET_PDEATHSIG: with the calling thread
};
struct Process {
  pid_t pid = -1;
  UniqueFd pidfd;
};
/// Returns once the program is executed; the error of execve names the program. The environment is the caller's.
Result<Process> start_process(const ProcessRequest& request);

/// Waits for the end of a child; its wait status.
Result<int> wait_process(int pidfd);

/// Runs a program to its end. An exit code other than 0 is kIo with what it wrote to either stream (64 KiB at most).
Result<std::string> run_program(const std::vector<std::string>& argv);

}  // namespace hull::vm
