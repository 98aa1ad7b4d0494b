#pragma once
// A process object (config.md, "Process") as the child's plain plan.

#include "base/error.h"
#include "isolation/seccomp.h"
#include "oci/runtime_spec.h"
#include "runtime/arena.h"

namespace hull::runtime {

struct ProcessContext {
  std::string container_id;
  bool own_user_namespace = false;
  bool deny_setgroups = false;  ///< the user namespace was made without the right to setgroups
  bool new_keyring = false;
  unsigned preserve_fds = 0;
  int console_socket = -1;
  const isolation::SeccompFilter* filter = nullptr;
};

/// Fills `plan`; everything it points to lies in `arena`, or in the filter of the context. Limits of a process in a
/// user namespace are left to the parent (see apply_rlimits).
Result<void> plan_process(const oci::Process& process, const ProcessContext& context, Arena& arena,
                          child::ProcessPlan& plan);
/// prlimit(2) on a child that can't raise its limits itself.
Result<void> apply_rlimits(const std::vector<oci::Rlimit>& limits, pid_t pid);
/// What exec and create check beyond the JSON: an absolute cwd, arguments, no NUL bytes.
Result<void> check_process(const oci::Process& process);

}  // namespace hull::runtime
