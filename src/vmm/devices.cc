#include "vmm/devices.h"

#include "base/error_format.h"
#include "vmm/virtio/block.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vsock.h"

namespace hull::vmm {

namespace {
Result<void> add_vsock(Machine& machine, const MachineConfig& config) {
  if (config.vsock_socket.empty()) return {};
  TRY_ASSIGN(VsockSocket socket, listen_vsock(config.vsock_socket));
  VsockOptions options;
  options.cid = config.vsock_cid;
  return machine.add_device(std::make_unique<VsockDevice>(std::move(socket), std::move(options)));
}

/// One device for each element of a list of the description.
template <typename Config, typename Create>
Result<void> add_each(Machine& machine, std::string_view list, const std::vector<Config>& configs, Create create) {
  for (size_t i = 0; i < configs.size(); ++i) {
    auto device = create(configs[i]);
    if (!device.ok()) return std::move(device).error().context(fmt::format("{}[{}]", list, i));
    TRY(machine.add_device(std::move(device).value()));
  }
  return {};
}
}  // namespace

/// Disks first: their order is that of /dev/vda and the following.
Result<BalloonDevice*> add_virtio_devices(Machine& machine, const MachineConfig& config) {
  if (!config.pmem.empty()) {
    return errorf(ErrorKind::kUnsupported, "pmem: hull-vmm has no persistent memory yet; give the file as a disk");
  }
  const auto disk = [](const DiskConfig& wanted) { return BlockDevice::create(wanted); };
  TRY(add_each(machine, "disks", config.disks, disk));
  TRY(add_each(machine, "nets", config.nets, NetDevice::create));
  TRY(add_each(machine, "filesystems", config.filesystems, FsDevice::create));
  TRY(add_vsock(machine, config));
  if (config.rng) TRY(machine.add_device(std::make_unique<RngDevice>()));
  if (!config.balloon) return nullptr;
  auto device = std::make_unique<BalloonDevice>();
  BalloonDevice* const balloon = device.get();
  TRY(machine.add_device(std::move(device)));
  return balloon;
}

}  // namespace hull::vmm
