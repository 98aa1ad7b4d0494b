#include "vmm/devices.h"

#include "base/error_format.h"
#include "vmm/virtio/block.h"
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
}  // namespace

Result<void> add_virtio_devices(Machine& machine, const MachineConfig& config) {
  for (size_t i = 0; i < config.disks.size(); ++i) {
    Result<std::unique_ptr<BlockDevice>> disk = BlockDevice::create(config.disks[i]);
    if (!disk.ok()) return std::move(disk).error().context(fmt::format("disks[{}]", i));
    TRY(machine.add_device(std::move(disk).value()));
  }
  TRY(add_vsock(machine, config));
  if (config.rng) TRY(machine.add_device(std::make_unique<RngDevice>()));
  return {};
}

}  // namespace hull::vmm
