#pragma once
// linux.resources.devices as what decides, and as a BPF program for v2.

#include <linux/bpf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

// The same bits as in the kernel's bpf_cgroup_dev_ctx.
inline constexpr uint8_t kDeviceMknod = BPF_DEVCG_ACC_MKNOD;
inline constexpr uint8_t kDeviceRead = BPF_DEVCG_ACC_READ;
inline constexpr uint8_t kDeviceWrite = BPF_DEVCG_ACC_WRITE;
inline constexpr uint8_t kDeviceAll = kDeviceMknod | kDeviceRead | kDeviceWrite;

struct DeviceException {
  char type = 'c';  // c or b
  std::optional<uint32_t> major, minor;
  uint8_t access = 0;  // kDevice* bits
  bool operator==(const DeviceException&) const = default;
};

/// A list of rules, worked off in order as the v1 controller does it: a default, and exceptions from it.
struct DevicePolicy {
  bool default_allow = true;
  std::vector<DeviceException> exceptions;
  bool operator==(const DevicePolicy&) const = default;
};

/// kInvalid for types other than a, b, c and accesses other than r, w, m. The start is "all allowed".
Result<DevicePolicy> device_policy(const std::vector<oci::DeviceCgroup>& rules);
/// v1's devices.list.
DevicePolicy parse_device_list(std::string_view text);
/// "c 1:3 rwm" as devices.allow and devices.deny take it.
std::string device_rule_text(const DeviceException& exception);

/// BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15): returns 1 to allow, 0 to refuse.
std::vector<bpf_insn> device_program(const DevicePolicy& policy);
/// Loads the program and attaches it to the v2 group, in place of all that hang there directly. kUnsupported where the
/// kernel lacks it.
Result<void> attach_device_program(int cgroup_dir_fd, const std::vector<bpf_insn>& program);

}  // namespace hull::isolation
