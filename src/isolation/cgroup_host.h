#pragma once
// For this room's cgroup.cc and delegation.cc.

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "isolation/cgroup.h"

namespace hull::isolation {

/// All mounted hierarchies with their roots, from /proc/self/mountinfo; the first mount of each.
Result<std::vector<CgroupMount>> mounted_cgroups();

/// The caller's own groups: "4:memory:/a/b" lines of /proc/self/cgroup, read once.
class OwnGroups {
 public:
  /// Below the mount's top, without leading "/"; "" for the top.
  Result<std::string> of(const CgroupMount& mount);

 private:
  /// The mount's root; CgroupHost::detect() leaves it out, because only this needs it.
  Result<std::string> root_of(const CgroupMount& mount);

  std::string text_;
  std::optional<std::vector<CgroupMount>> mounts_;
};

}  // namespace hull::isolation
