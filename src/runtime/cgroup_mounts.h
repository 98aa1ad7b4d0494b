#pragma once

#include <vector>

#include "base/error.h"
#include "runtime/mount_plan.h"

namespace hull::runtime {

/// The steps of a mount of type cgroup: one cgroup2, or a tmpfs with a folder for each v1 hierarchy. Without a cgroup
/// namespace everything is read-only, so that no container writes the host's tree (CVE-2023-25809).
Result<void> plan_cgroup_mount(const oci::Mount& mount, const MountOptions& options, const MountContext& context,
                               Arena& arena, child::MountStep step, std::vector<child::MountStep>& steps);

}  // namespace hull::runtime
