#pragma once
// Hooks (config.md, "POSIX-platform Hooks"): programs that get the state document on standard input.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::runtime {

/// Where hooks run. pidfd < 0: the runtime's own namespaces.
struct HookPlace {
  int pidfd = -1;         ///< join these namespaces of this process
  int namespaces = 0;     ///< CLONE_NEW*
  int root_fd = -1;       ///< and take this as the root after joining
  std::string folder;     ///< working folder, below that root; empty: as it is
  bool join_pid = false;  ///< run in its pid namespace too
};

/// Runs them in order; the first that fails (status, signal, time-out after which it is killed) ends it.
Result<void> run_hooks(std::string_view kind, const std::vector<oci::Hook>& hooks, const oci::State& state,
                       const HookPlace& place = {});

}  // namespace hull::runtime
