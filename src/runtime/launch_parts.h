#pragma once
// Small steps of Launch that stand alone.

#include <map>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"
#include "runtime/arena.h"

namespace hull::runtime {

/// realpath(3) of a folder.
Result<std::string> absolute_folder(const std::string& path);
/// The file of a namespace given by path; kInvalid when it is of another kind.
Result<UniqueFd> open_namespace(const oci::Namespace& entry);
/// linux.personality and linux.memoryPolicy.
Result<void> plan_machine(const oci::Spec& spec, Arena& arena, child::ProcessPlan& plan);
/// /proc/PID/oom_score_adj; without privilege a value that can't be lowered is left as it is.
Result<void> set_oom_score(pid_t pid, int score, bool tolerate);
/// Moves host interfaces into the process's network namespace, renaming them where asked (linux.netDevices).
Result<void> move_net_devices(const std::map<std::string, std::string>& devices, pid_t pid);

}  // namespace hull::runtime
