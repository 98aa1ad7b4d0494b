#pragma once

#include <vector>

#include "base/error.h"
#include "runtime/mount_plan.h"

namespace hull::runtime {

/// linux.devices, the specification's default devices, and the links of /dev.
Result<void> plan_devices(const oci::Spec& spec, const MountContext& context, Arena& arena, std::vector<UniqueFd>& fds,
                          child::ContainerPlan& plan);

}  // namespace hull::runtime
