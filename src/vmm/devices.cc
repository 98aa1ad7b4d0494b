#include "vmm/devices.h"

#include "base/error_format.h"
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

Result<void> add_virtio_devices(Machine& machine, const MachineConfig& config) { return add_vsock(machine, config); }

}  // namespace hull::vmm
