#pragma once
// How large a machine has to be for a workload, and what it may cost the host beside its guest's memory.

#include <cstdint>

namespace hull::vm {

inline constexpr uint64_t kDefaultWorkloadBytes = 1ull << 30;  ///< without a memory limit
inline constexpr uint32_t kDefaultVcpus = 2;
inline constexpr uint32_t kMostGuestVcpus = 64;

/// Memory of a machine whose workload may use `workload_bytes`: the guest's kernel, initramfs and page structures come
/// on top (a 64th of all memory for the latter). A multiple of 2 MiB.
constexpr uint64_t machine_memory(uint64_t workload_bytes) {
  constexpr uint64_t kKernelBytes = 64ull << 20;
  constexpr uint64_t kStep = 2ull << 20;
  const uint64_t bytes = workload_bytes + workload_bytes / 48 + kKernelBytes;
  return (bytes + kStep - 1) / kStep * kStep;
}

/// What supervisor, hypervisor and file daemon may use on the host beside the guest's memory: the rest of the control
/// group's limit. QEMU's software emulation keeps translated code.
constexpr uint64_t host_overhead(bool emulated) { return emulated ? 640ull << 20 : 128ull << 20; }

}  // namespace hull::vm
