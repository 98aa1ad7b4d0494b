#pragma once
// What --privileged gives a workload in a machine: the devices of the machine.

#include <string>

#include "oci/runtime_spec.h"

namespace hull::guest {

/// Adds every device node below `folder` (the guest's /dev) to linux.devices, where the document's device rules allow
/// everything. A node that the document names stays as it is; what a runtime makes itself (pts, shm, console ...) is
/// left out. At most 4,096.
void add_own_devices(const std::string& folder, oci::Spec* spec);

}  // namespace hull::guest
