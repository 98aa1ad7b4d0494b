#pragma once
// For this room's cgroup.cc.

#include <vector>

#include "base/error.h"
#include "isolation/cgroup.h"

namespace hull::isolation {

/// All mounted hierarchies with their roots, from /proc/self/mountinfo; the first mount of each.
Result<std::vector<CgroupMount>> mounted_cgroups();

}  // namespace hull::isolation
