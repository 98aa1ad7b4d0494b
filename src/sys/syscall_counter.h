#pragma once
// How many system calls the processes make that this one starts: the tracepoint raw_syscalls:sys_enter, counted by the
// kernel (perf_event_open(2)) in the whole tree below, also in what has ended meanwhile. Counting slows each call by a
// fraction of a microsecond.

#include <cstdint>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

class SyscallCounter {
 public:
  /// Counts from now on. kUnsupported or kPermission where this kernel has no such tracepoint or does not let us.
  /// Call it from the thread that starts the processes.
  static Result<SyscallCounter> start();
  /// Of the processes started since start(), without the caller's own.
  Result<uint64_t> count() const;

 private:
  SyscallCounter(UniqueFd tree, UniqueFd own) : tree_(std::move(tree)), own_(std::move(own)) {}
  UniqueFd tree_, own_;
};

}  // namespace hull::sys
