#pragma once
// How large a workload's machine is.

#include <cstdint>

#include "base/error.h"
#include "engine/config.h"
#include "engine/engine.h"

namespace hull::engine {

struct VmSize {
  uint64_t memory_bytes = 0;
  uint32_t vcpus = 1;
};

/// -m N gives the workload N bytes inside, so the machine has N and what the guest's kernel takes (vm/machine_size.h);
/// without -m it has [vm] memory in all. Processors: --cpus, else --cpu-quota by --cpu-period, rounded up; else as many
/// as --cpuset-cpus names; else [vm] vcpus, at most as many as the host has.
/// kInvalid when that is more memory than the host has, or more than 64 processors.
Result<VmSize> vm_size(const Config& config, const Settings& settings, uint64_t host_memory, uint32_t host_cpus);

/// Bytes of the writable disk: --storage-opt size=, else 10 GiB.
Result<uint64_t> scratch_size(const Config& config);

}  // namespace hull::engine
