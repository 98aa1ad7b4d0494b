#include <cerrno>

#include "base/error_format.h"
#include "isolation/cgroup_apply.h"
#include "isolation/cgroup_files.h"

namespace hull::isolation::cgroup_apply {

using cgroup_files::read_number;
using cgroup_files::try_write;
using cgroup_files::write;

namespace {

std::string text_of(auto number) { return fmt::format("{}", number); }

Result<void> memory_limit(const Folder& folder, int64_t limit) {
  const std::string value = text_of(limit);
  const int error = try_write(folder, "memory.limit_in_bytes", value);
  if (error != EBUSY) {
    if (error == 0) return {};
    return write(folder, "memory.limit_in_bytes", value, "linux.resources.memory.limit");
  }
  return errorf(ErrorKind::kConflict,
                "linux.resources.memory.limit: {} is below what the container uses and can't be given back ({} bytes, "
                "at most {} so far)",
                limit, read_number(folder, "memory.usage_in_bytes").value_or(0),
                read_number(folder, "memory.max_usage_in_bytes").value_or(0));
}

}  // namespace

Result<void> memory_v1(const Folder& folder, const oci::MemoryResources& memory) {
  constexpr std::string_view kSwapFile = "memory.memsw.limit_in_bytes";
  // 0 means "not given".
  int64_t swap = memory.swap.value_or(0);
  const auto write_swap = [&](int64_t value, bool asked) -> Result<void> {
    const std::string file(kSwapFile);
    const int error = try_write(folder, file, text_of(value));
    // Without swap accounting "no limit on swap" already holds.
    if (error == 0 || (error == ENOENT && (!asked || value < 0))) return {};
    if (error == ENOENT) {
      return Error(ErrorKind::kUnsupported,
                   "linux.resources.memory.swap: this kernel does not account swap (boot it with swapaccount=1), or "
                   "leave the member out");
    }
    return write(folder, file, text_of(value), "linux.resources.memory.swap");
  };
  // Unlimited memory with a limited sum is nothing that the kernel takes, so the sum goes with it.
  const bool swap_follows = memory.limit.value_or(0) == -1 && swap == 0;
  if (swap_follows) swap = -1;
  if (is_set(memory.limit) && swap != 0) {
    // The kernel keeps limit <= sum at every moment: what grows is raised from the sum, what shrinks from the limit.
    const uint64_t current = read_number(folder, "memory.limit_in_bytes").value_or(0);
    const bool swap_first = swap == -1 || current < static_cast<uint64_t>(swap);
    if (swap_first) TRY(write_swap(swap, !swap_follows));
    TRY(memory_limit(folder, *memory.limit));
    if (!swap_first) TRY(write_swap(swap, true));
  } else if (is_set(memory.limit)) {
    TRY(memory_limit(folder, *memory.limit));
  } else if (swap != 0) {
    TRY(write_swap(swap, true));
  }
  // memory.kernel: not written, as in runc and crun; Linux 5.16 took its meaning away. kernelTCP still counts.
  if (is_set(memory.kernel_tcp)) {
    TRY(write(folder, "memory.kmem.tcp.limit_in_bytes", text_of(*memory.kernel_tcp),
              "linux.resources.memory.kernelTCP"));
  }
  if (is_set(memory.reservation)) {
    TRY(write(folder, "memory.soft_limit_in_bytes", text_of(*memory.reservation),
              "linux.resources.memory.reservation"));
  }
  if (memory.disable_oom_killer.value_or(false)) {
    TRY(write(folder, "memory.oom_control", "1", "linux.resources.memory.disableOOMKiller"));
  }
  // 2^64-1 is how Docker's -1, "as the host", arrives.
  if (memory.swappiness && *memory.swappiness != ~0ULL) {
    if (*memory.swappiness > 100) {
      return errorf(ErrorKind::kInvalid, "linux.resources.memory.swappiness: {} is outside 0 to 100",
                    *memory.swappiness);
    }
    TRY(write(folder, "memory.swappiness", text_of(*memory.swappiness), "linux.resources.memory.swappiness"));
  }
  return {};
}

Result<void> cpu_v1(const Folder& folder, const oci::CpuResources& cpu) {
  // The real-time pair: either order can be refused, depending on the values that are there.
  bool period_waits = false;
  if (is_set(cpu.realtime_period)) {
    const std::string value = text_of(*cpu.realtime_period);
    const int error = try_write(folder, "cpu.rt_period_us", value);
    period_waits = error == EINVAL && is_set(cpu.realtime_runtime);
    if (error != 0 && !period_waits) {
      return write(folder, "cpu.rt_period_us", value, "linux.resources.cpu.realtimePeriod");
    }
  }
  if (is_set(cpu.realtime_runtime)) {
    TRY(write(folder, "cpu.rt_runtime_us", text_of(*cpu.realtime_runtime), "linux.resources.cpu.realtimeRuntime"));
  }
  if (period_waits) {
    TRY(write(folder, "cpu.rt_period_us", text_of(*cpu.realtime_period), "linux.resources.cpu.realtimePeriod"));
  }
  if (is_set(cpu.shares)) {
    TRY(write(folder, "cpu.shares", text_of(*cpu.shares), "linux.resources.cpu.shares"));
    // The kernel moves a value into its range without a word.
    const std::optional<uint64_t> now = read_number(folder, "cpu.shares");
    if (now && *now != *cpu.shares) {
      return errorf(ErrorKind::kInvalid,
                    "linux.resources.cpu.shares: {} is outside what the kernel takes ({} is the {})", *cpu.shares, *now,
                    *now < *cpu.shares ? "highest" : "lowest");
    }
  }
  const bool quota_comes = is_set(cpu.quota);
  period_waits = false;
  if (is_set(cpu.period)) {
    const std::string value = text_of(*cpu.period);
    const int error = try_write(folder, "cpu.cfs_period_us", value);
    period_waits = error == EINVAL && quota_comes;
    if (error != 0 && !period_waits) return write(folder, "cpu.cfs_period_us", value, "linux.resources.cpu.period");
  }
  bool burst_waits = false;
  if (cpu.burst) {
    const std::string value = text_of(*cpu.burst);
    const int error = try_write(folder, "cpu.cfs_burst_us", value);
    burst_waits = error == EINVAL && quota_comes;
    const bool nothing_asked = error == ENOENT && *cpu.burst == 0;
    if (error != 0 && !burst_waits && !nothing_asked) {
      return write(folder, "cpu.cfs_burst_us", value, "linux.resources.cpu.burst");
    }
  }
  if (quota_comes) TRY(write(folder, "cpu.cfs_quota_us", text_of(*cpu.quota), "linux.resources.cpu.quota"));
  if (period_waits) TRY(write(folder, "cpu.cfs_period_us", text_of(*cpu.period), "linux.resources.cpu.period"));
  if (burst_waits) TRY(write(folder, "cpu.cfs_burst_us", text_of(*cpu.burst), "linux.resources.cpu.burst"));
  if (cpu.idle) {
    const std::string value = text_of(*cpu.idle);
    const int error = try_write(folder, "cpu.idle", value);
    if (error != 0 && !(error == ENOENT && *cpu.idle == 0)) {
      return write(folder, "cpu.idle", value, "linux.resources.cpu.idle");
    }
  }
  return {};
}

Result<void> block_io_v1(const Folder& folder, const oci::BlockIoResources& io) {
  // The weight files moved with the scheduler that implements them: CFQ (to 4.20), then BFQ.
  const bool weights = is_set(io.weight) || is_set(io.leaf_weight) || !io.weight_device.empty();
  std::string prefix = "blkio.";
  if (weights && !cgroup_files::has_file(folder, "blkio.weight") &&
      cgroup_files::has_file(folder, "blkio.bfq.weight")) {
    prefix = "blkio.bfq.";
  }
  if (is_set(io.weight)) {
    TRY(write(folder, prefix + "weight", text_of(*io.weight), "linux.resources.blockIO.weight"));
  }
  if (is_set(io.leaf_weight)) {
    TRY(write(folder, "blkio.leaf_weight", text_of(*io.leaf_weight), "linux.resources.blockIO.leafWeight"));
  }
  for (const oci::WeightDevice& device : io.weight_device) {
    constexpr std::string_view kMember = "linux.resources.blockIO.weightDevice";
    if (is_set(device.weight)) {
      TRY(write(folder, prefix + "weight_device", fmt::format("{}:{} {}", device.major, device.minor, *device.weight),
                kMember));
    }
    if (is_set(device.leaf_weight)) {
      TRY(write(folder, "blkio.leaf_weight_device",
                fmt::format("{}:{} {}", device.major, device.minor, *device.leaf_weight), kMember));
    }
  }
  const auto throttle = [&](const std::vector<oci::ThrottleDevice>& devices, const char* file,
                            std::string_view member) -> Result<void> {
    for (const oci::ThrottleDevice& device : devices) {
      TRY(write(folder, file, fmt::format("{}:{} {}", device.major, device.minor, device.rate), member));
    }
    return {};
  };
  TRY(throttle(io.throttle_read_bps, "blkio.throttle.read_bps_device",
               "linux.resources.blockIO.throttleReadBpsDevice"));
  TRY(throttle(io.throttle_write_bps, "blkio.throttle.write_bps_device",
               "linux.resources.blockIO.throttleWriteBpsDevice"));
  TRY(throttle(io.throttle_read_iops, "blkio.throttle.read_iops_device",
               "linux.resources.blockIO.throttleReadIOPSDevice"));
  TRY(throttle(io.throttle_write_iops, "blkio.throttle.write_iops_device",
               "linux.resources.blockIO.throttleWriteIOPSDevice"));
  return {};
}

Result<void> network_class(const Folder& folder, uint32_t class_id) {
  return write(folder, "net_cls.classid", text_of(class_id), "linux.resources.network.classID");
}

Result<void> network_priorities(const Folder& folder, const std::vector<oci::InterfacePriority>& priorities) {
  for (const oci::InterfacePriority& entry : priorities) {
    // The kernel splits at white space, so a name with some would set something else.
    if (entry.name.empty() || entry.name.find_first_of(" \t\n") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "linux.resources.network.priorities: \"{}\" is no interface name", entry.name);
    }
    TRY(write(folder, "net_prio.ifpriomap", fmt::format("{} {}", entry.name, entry.priority),
              "linux.resources.network.priorities"));
  }
  return {};
}

}  // namespace hull::isolation::cgroup_apply
