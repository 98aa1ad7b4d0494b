// What can't mean the same behind the second wall. Each is refused with the reason; the manual page of run lists them.
#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "engine/validate.h"
#include "engine/vm_size.h"

namespace hull::engine {
namespace {

Error refused(std::string_view flag, std::string_view why) {
  return errorf(ErrorKind::kUnsupported, "{} can't be had with --vm: {}", flag, why);
}

bool of_container(std::string_view mode) { return mode.starts_with("container:"); }

Result<void> check_namespaces(const Config& c) {
  if (c.network == "host" || of_container(c.network)) {
    return refused("--network " + c.network,
                   "the guest's kernel has a network stack of its own; use --network bridge and publish ports with -p");
  }
  if (c.pid_mode == "host" || of_container(c.pid_mode)) {
    return refused("--pid " + c.pid_mode, "processes inside belong to another kernel and can't see those outside");
  }
  if (c.ipc_mode == "host" || c.ipc_mode == "shareable" || of_container(c.ipc_mode)) {
    return refused("--ipc " + c.ipc_mode, "memory is not shared between the guest and what runs outside");
  }
  if (c.uts_mode == "host")
    return refused("--uts host", "the guest has a host name of its own; set it with --hostname");
  if (c.cgroupns_mode == "host") return refused("--cgroupns host", "the guest has control groups of its own");
  return {};
}

Result<void> check_devices(const Config& c) {
  for (const DeviceMapping& device : c.devices) {
    if (is_guest_device(device.host_path)) continue;
    return refused("--device " + device.host_path,
                   "a device of this machine can't be reached from the guest; there are /dev/null, zero, full, random, "
                   "urandom, tty and fuse");
  }
  const auto rates = [](std::string_view flag, const auto& list) -> Result<void> {
    if (list.empty()) return {};
    return refused(flag, "the guest has disks of its own, not those of this machine");
  };
  TRY(rates("--blkio-weight-device", c.blkio_weight_device));
  TRY(rates("--device-read-bps", c.device_read_bps));
  TRY(rates("--device-write-bps", c.device_write_bps));
  TRY(rates("--device-read-iops", c.device_read_iops));
  TRY(rates("--device-write-iops", c.device_write_iops));
  return {};
}

Result<void> check_mounts(const Config& c) {
  for (const MountRequest& m : c.mounts) {
    if (m.propagation.ends_with("shared") || m.propagation.ends_with("slave")) {
      return refused("bind-propagation=" + m.propagation,
                     "mounts made on one side can't appear on the other; use rprivate");
    }
  }
  return {};
}

Result<void> check_security(const Config& c) {
  for (const std::string& option : c.security_opt) {
    const std::string_view name = std::string_view(option).substr(0, option.find_first_of("=:"));
    const std::string_view value = std::string_view(option).substr(std::min(name.size() + 1, option.size()));
    if (name == "apparmor" && !value.empty() && value != "unconfined") {
      return refused("--security-opt " + option, "the guest's kernel has none of this machine's AppArmor profiles");
    }
  }
  return {};
}

Result<void> check_limits(const Config& c) {
  if (c.cpu_rt_period != 0 || c.cpu_rt_runtime != 0) {
    return refused("--cpu-rt-runtime", "the guest's control groups have no real-time limits");
  }
  if (c.oom_kill_disable) {
    return refused("--oom-kill-disable", "the guest's control groups can't hold a process instead of killing it");
  }
  if (c.memory_swappiness) return refused("--memory-swappiness", "the guest has no swap");
  TRY(scratch_size(c));
  return {};
}

}  // namespace

bool is_guest_device(std::string_view path) {
  static constexpr std::array<std::string_view, 7> kDevices = {"/dev/null",    "/dev/zero", "/dev/full", "/dev/random",
                                                               "/dev/urandom", "/dev/tty",  "/dev/fuse"};
  return std::find(kDevices.begin(), kDevices.end(), path) != kDevices.end();
}

Result<void> validate_vm(const Config& c) {
  for (const auto& [name, value] : c.storage_opt) {
    if (name != "size") return errorf(ErrorKind::kInvalid, "--storage-opt {}: there is only size=", name);
  }
  if (c.isolation == Isolation::kContainer) {
    if (!c.storage_opt.empty()) {
      return errorf(
          ErrorKind::kUnsupported,
          "--storage-opt size= sets the size of a virtual machine's disk: add --vm; a container's files share "
          "the disk of this machine");
    }
    if (!c.hypervisor.empty()) {
      return errorf(ErrorKind::kInvalid, "--hypervisor {}: a container has none; add --vm", c.hypervisor);
    }
    return {};
  }
  if (!c.hypervisor.empty() && c.hypervisor != "auto" && c.hypervisor != "kvm" && c.hypervisor != "qemu") {
    return errorf(ErrorKind::kInvalid, "--hypervisor {}: expected auto, kvm or qemu", c.hypervisor);
  }
  TRY(check_namespaces(c));
  TRY(check_devices(c));
  TRY(check_mounts(c));
  TRY(check_security(c));
  return check_limits(c);
}

}  // namespace hull::engine
