#pragma once
// What both back ends do with a MachineConfig before they start anything: check it against this machine, and tell what
// went wrong afterwards.

#include <string>
#include <vector>

#include "base/error.h"
#include "vmm/machine_config.h"

namespace hull::vm {

inline constexpr uint64_t kLeastMemoryBytes = 64ull << 20;  ///< what Debian's cloud kernel and the initramfs boot in
inline constexpr uint32_t kMostVcpus = 64;

/// kInvalid or kNotFound in a user's words: memory too small to boot or more than this machine has, no or too many
/// virtual processors, a kernel, initramfs or disk that is missing or is no regular file.
Result<void> check_machine(const vmm::MachineConfig& config);

/// Descriptors that the configuration names and that the machine's process has to inherit: taps, "/proc/self/fd/N".
std::vector<int> inherited_fds(const vmm::MachineConfig& config);

}  // namespace hull::vm
