#pragma once
// A workload's files as the host may read them: resolved inside their root, nothing mounted anywhere visible.

#include <string>
#include <vector>

#include "base/error.h"
#include "sys/root.h"

namespace hull::engine {

/// Read-only view of stacked folders, uppermost first. One folder is used as it is; several become an overlay that is
/// never attached to any path (fsopen, fsmount: Linux 5.2) and that ends with the last descriptor.
Result<sys::Root> open_stack(const std::vector<std::string>& folders);

/// Splits "a:b" safely: folders whose names overlayfs would misread are kInvalid.
Result<std::string> join_lower_dirs(const std::vector<std::string>& folders);

}  // namespace hull::engine
