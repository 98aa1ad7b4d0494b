#pragma once
// A workload's files as it sees them, for who copies into or out of it.

#include <optional>

#include "base/unique_fd.h"
#include "engine/change.h"
#include "sys/root.h"

namespace hull::engine {

/// Every path below `root` is resolved inside it (openat2). A running workload's root is the one of its first process,
/// with everything that is mounted there; that of a stopped one is put together in a mount namespace of its own, which
/// ends with this, and the lock keeps the workload from starting meanwhile.
struct WorkloadFiles {
  sys::Root root;
  UniqueFd mount_namespace;
  std::optional<Change> change;
};

}  // namespace hull::engine
