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

/// For a running machine, on descriptors that it takes over; the device's index.
Result<size_t> plug_disk(Machine& machine, const DiskConfig& config, std::vector<UniqueFd> files);
Result<size_t> plug_net(Machine& machine, const NetConfig& config, std::vector<UniqueFd> taps);
/// "block", "net" and so on, by a device's virtio id.
std::string_view device_kind(uint32_t id);

}  // namespace hull::vmm
