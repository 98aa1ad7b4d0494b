#include "vmm/devices.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/error_format.h"
#include "vmm/virtio/block.h"
#include "vmm/virtio/console.h"
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

/// On descriptors of its own, so that the device's end closes nothing else.
Result<void> add_console(Machine& machine) {
  ConsoleOptions options;
  options.input.reset(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  options.output.reset(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  return machine.add_device(std::make_unique<ConsoleDevice>(std::move(options)));
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
  const auto disk = [](const DiskConfig& wanted) { return BlockDevice::create(wanted); };
  const auto net = [](const NetConfig& wanted) { return NetDevice::create(wanted); };
  TRY(add_each(machine, "disks", config.disks, disk));
  TRY(add_each(machine, "nets", config.nets, net));
  TRY(add_each(machine, "filesystems", config.filesystems, FsDevice::create));
  TRY(add_vsock(machine, config));
  if (config.rng) TRY(machine.add_device(std::make_unique<RngDevice>()));
  for (size_t i = 0; i < config.pmem.size(); ++i) {
    Result<std::unique_ptr<PmemDevice>> made = PmemDevice::create(config.pmem[i]);
    if (!made.ok()) return std::move(made).error().context(fmt::format("pmem[{}]", i));
    TRY(machine.add_persistent_memory(std::move(made).value()));
  }
  if (config.virtio_console) TRY(add_console(machine));
  if (!config.balloon) return nullptr;
  auto device = std::make_unique<BalloonDevice>();
  BalloonDevice* const balloon = device.get();
  TRY(machine.add_device(std::move(device)));
  return balloon;
}

Result<size_t> plug_disk(Machine& machine, const DiskConfig& config, std::vector<UniqueFd> files) {
  return machine.plug([&]() -> Result<std::unique_ptr<VirtioDevice>> {
    TRY_ASSIGN(std::unique_ptr<VirtioDevice> device, BlockDevice::create(config, std::move(files)));
    return device;
  });
}

Result<size_t> plug_net(Machine& machine, const NetConfig& config, std::vector<UniqueFd> taps) {
  return machine.plug([&]() -> Result<std::unique_ptr<VirtioDevice>> {
    TRY_ASSIGN(std::unique_ptr<VirtioDevice> device, NetDevice::create(config, std::move(taps)));
    return device;
  });
}

std::string_view device_kind(uint32_t id) {
  switch (id) {
    case 1:
      return "net";
    case 2:
      return "block";
    case 3:
      return "console";
    case 4:
      return "rng";
    case 5:
      return "balloon";
    case 19:
      return "vsock";
    case 26:
      return "fs";
    case 27:
      return "pmem";
    default:
      return "unknown";
  }
}

}  // namespace hull::vmm
