#pragma once
// The virtio devices that a description asks for, made and put into a machine.

#include "base/error.h"
#include "vmm/machine.h"
#include "vmm/machine_config.h"
#include "vmm/virtio/balloon.h"

namespace hull::vmm {

/// In the order in which the guest finds them: disks, nets, file systems, vsock, rng, persistent memory, console,
/// balloon. Opens the files and
/// sockets; errors name the member of the description and what to do. The balloon, which the machine owns, or null.
Result<BalloonDevice*> add_virtio_devices(Machine& machine, const MachineConfig& config);

}  // namespace hull::vmm
