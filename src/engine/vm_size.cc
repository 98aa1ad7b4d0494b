#include "engine/vm_size.h"

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "vm/machine_size.h"
#include "vm/scratch_disk.h"

namespace hull::engine {
namespace {

constexpr uint64_t kStep = 2 << 20;  // of machine_memory() too

/// How many processors "0-3,5" names; 0 for a list that can't be read.
uint64_t cpus_in_list(std::string_view list) {
  uint64_t count = 0;
  while (!list.empty()) {
    const std::string_view part = list.substr(0, list.find(','));
    list.remove_prefix(std::min(part.size() + 1, list.size()));
    const size_t dash = part.find('-');
    const auto first = parse_int(part.substr(0, dash), 0, 1 << 20);
    const auto last = dash == std::string_view::npos ? first : parse_int(part.substr(dash + 1), 0, 1 << 20);
    if (!first.ok() || !last.ok() || *last < *first) return 0;
    count += static_cast<uint64_t>(*last - *first) + 1;
  }
  return count;
}

uint64_t wanted_vcpus(const Config& c, const Settings& settings, uint32_t host_cpus) {
  const auto up = [](int64_t part, int64_t whole) { return static_cast<uint64_t>((part + whole - 1) / whole); };
  if (c.nano_cpus > 0) return up(c.nano_cpus, 1'000'000'000);
  if (c.cpu_quota > 0) return up(c.cpu_quota, c.cpu_period > 0 ? c.cpu_period : 100'000);
  if (const uint64_t listed = cpus_in_list(c.cpuset_cpus); listed > 0) return listed;
  return std::min<uint64_t>(static_cast<uint64_t>(settings.vm_vcpus), std::max<uint32_t>(host_cpus, 1));
}

}  // namespace

Result<VmSize> vm_size(const Config& config, const Settings& settings, uint64_t host_memory, uint32_t host_cpus) {
  VmSize size;
  if (config.memory > 0) {
    const auto workload = static_cast<uint64_t>(config.memory);
    // A request near the end of the number range must not wrap around.
    size.memory_bytes = workload > host_memory ? workload : vm::machine_memory(workload);
  } else {
    size.memory_bytes = static_cast<uint64_t>(settings.vm_memory) / kStep * kStep;
  }
  if (size.memory_bytes > host_memory) {
    return errorf(ErrorKind::kInvalid,
                  "the virtual machine would have {} of memory, and this host has {}: give it less with --memory",
                  format_size_binary(size.memory_bytes), format_size_binary(host_memory));
  }
  const uint64_t vcpus = wanted_vcpus(config, settings, host_cpus);
  if (vcpus > vm::kMostGuestVcpus) {
    return errorf(ErrorKind::kInvalid, "a virtual machine has at most {} processors, not {}: give it fewer with --cpus",
                  vm::kMostGuestVcpus, vcpus);
  }
  size.vcpus = static_cast<uint32_t>(std::max<uint64_t>(vcpus, 1));
  return size;
}

Result<uint64_t> scratch_size(const Config& config) {
  const auto it = config.storage_opt.find("size");
  if (it == config.storage_opt.end()) return vm::kDefaultScratchBytes;
  TRY_ASSIGN(const int64_t bytes, parse_size(it->second));
  const auto size = static_cast<uint64_t>(std::max<int64_t>(bytes, 0));
  if (size < vm::kLeastScratchBytes || size > vm::kMostScratchBytes) {
    return errorf(ErrorKind::kInvalid, "--storage-opt size={}: expected {} to {}", it->second,
                  format_size_binary(vm::kLeastScratchBytes), format_size_binary(vm::kMostScratchBytes));
  }
  return size;
}

}  // namespace hull::engine
