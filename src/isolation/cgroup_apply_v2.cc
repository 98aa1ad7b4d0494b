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

/// v1's -1 is v2's "max".
std::string limit_text(int64_t limit) { return limit < 0 ? "max" : text_of(limit); }

}  // namespace

Result<void> memory_v2(const Folder& folder, const oci::MemoryResources& memory) {
  const bool has_limit = is_set(memory.limit);
  if (memory.check_before_update.value_or(false) && has_limit && *memory.limit > 0) {
    // v1 refuses a limit below the usage; v2 would kill. The document asks for v1's way.
    const uint64_t usage = read_number(folder, "memory.current").value_or(0);
    if (usage > static_cast<uint64_t>(*memory.limit)) {
      return errorf(ErrorKind::kConflict,
                    "linux.resources.memory.limit: {} is below what the container uses now, {} bytes "
                    "(checkBeforeUpdate)",
                    *memory.limit, usage);
    }
  }
  if (has_limit || is_set(memory.swap)) {
    int64_t limit = memory.limit.value_or(0);
    if (limit == 0 && memory.swap.value_or(0) > 0) {
      // `update --memory-swap` alone: the limit that is in force is the one to subtract.
      const std::optional<uint64_t> current = read_number(folder, "memory.max");
      if (current) limit = *current > INT64_MAX ? -1 : static_cast<int64_t>(*current);
    }
    TRY_ASSIGN(const int64_t swap, swap_max_of_memsw(memory.swap.value_or(0), limit));
    const bool equal = memory.swap.value_or(0) > 0 && swap == 0;  // the sum is the limit: no swap at all
    if (swap != 0 || equal) {
      const std::string value = limit_text(swap);
      const int error = try_write(folder, "memory.swap.max", value);
      // Without swap there is none to limit.
      if (error != 0 && !(error == ENOENT && (swap < 0 || equal))) {
        return write(folder, "memory.swap.max", value, "linux.resources.memory.swap");
      }
    }
  }
  if (has_limit) TRY(write(folder, "memory.max", limit_text(*memory.limit), "linux.resources.memory.limit"));
  if (is_set(memory.reservation)) {
    TRY(write(folder, "memory.low", limit_text(*memory.reservation), "linux.resources.memory.reservation"));
  }
  if (memory.disable_oom_killer.value_or(false)) {
    return Error(
        ErrorKind::kUnsupported,
        "linux.resources.memory.disableOOMKiller: control groups v2 can't switch the OOM killer off; leave the "
        "member out");
  }
  if (memory.swappiness && *memory.swappiness != ~0ULL) {
    return Error(ErrorKind::kUnsupported,
                 "linux.resources.memory.swappiness: control groups v2 have no swappiness; leave the member out");
  }
  // kernel and kernelTCP: v2 counts both within memory.max; documents made for v1 carry them, so they are let pass.
  return {};
}

Result<void> cpu_v2(const Folder& folder, const oci::CpuResources& cpu) {
  if (is_set(cpu.realtime_runtime) || is_set(cpu.realtime_period)) {
    return Error(
        ErrorKind::kUnsupported,
        "linux.resources.cpu.realtimeRuntime, realtimePeriod: control groups v2 have no real-time limits; leave "
        "the members out");
  }
  if (cpu.idle) {
    const std::string value = text_of(*cpu.idle);
    const int error = try_write(folder, "cpu.idle", value);
    if (error != 0 && !(error == ENOENT && *cpu.idle == 0)) {
      return write(folder, "cpu.idle", value, "linux.resources.cpu.idle");
    }
  }
  // An idle group has no weight of its own: the kernel refuses one.
  if (is_set(cpu.shares) && cpu.idle.value_or(0) != 1) {
    TRY(write(folder, "cpu.weight", text_of(cpu_weight_of_shares(*cpu.shares)), "linux.resources.cpu.shares"));
  }
  const bool bandwidth = is_set(cpu.quota) || is_set(cpu.period);
  bool burst_waits = false;
  if (cpu.burst) {
    const std::string value = text_of(*cpu.burst);
    const int error = try_write(folder, "cpu.max.burst", value);
    burst_waits = error == EINVAL && bandwidth;
    if (error != 0 && !burst_waits && !(error == ENOENT && *cpu.burst == 0)) {
      return write(folder, "cpu.max.burst", value, "linux.resources.cpu.burst");
    }
  }
  if (bandwidth) {
    // One file holds both; what is not given keeps its value.
    const std::optional<std::string> now = cgroup_files::read_optional(folder, "cpu.max");
    const std::vector<std::string_view> parts =
        now ? cgroup_files::split(*now, " \n") : std::vector<std::string_view>();
    std::string quota = parts.empty() ? "max" : std::string(parts[0]);
    std::string period = parts.size() < 2 ? "100000" : std::string(parts[1]);
    if (is_set(cpu.quota)) quota = limit_text(*cpu.quota);
    if (is_set(cpu.period)) period = text_of(*cpu.period);
    TRY(write(folder, "cpu.max", quota + " " + period, "linux.resources.cpu.quota"));
  }
  if (burst_waits) TRY(write(folder, "cpu.max.burst", text_of(*cpu.burst), "linux.resources.cpu.burst"));
  return {};
}

Result<void> cpuset(const Folder& folder, const oci::CpuResources& cpu) {
  if (!cpu.cpus.empty()) TRY(write(folder, "cpuset.cpus", cpu.cpus, "linux.resources.cpu.cpus"));
  if (!cpu.mems.empty()) TRY(write(folder, "cpuset.mems", cpu.mems, "linux.resources.cpu.mems"));
  return {};
}

Result<void> block_io_v2(const Folder& folder, const oci::BlockIoResources& io) {
  constexpr std::string_view kWeightMember = "linux.resources.blockIO.weight";
  constexpr std::string_view kDeviceMember = "linux.resources.blockIO.weightDevice";
  const bool bfq = (is_set(io.weight) || !io.weight_device.empty()) && cgroup_files::has_file(folder, "io.bfq.weight");
  if (is_set(io.weight)) {
    // BFQ's range is blkio's; io.weight has its own.
    if (bfq) {
      TRY(write(folder, "io.bfq.weight", text_of(*io.weight), kWeightMember));
    } else {
      TRY(write(folder, "io.weight", text_of(io_weight_of_blkio(*io.weight)), kWeightMember));
    }
  }
  if (is_set(io.leaf_weight)) {
    return Error(ErrorKind::kUnsupported,
                 "linux.resources.blockIO.leafWeight: control groups v2 have no leaf weights; leave the member out");
  }
  for (const oci::WeightDevice& device : io.weight_device) {
    if (is_set(device.leaf_weight)) {
      return Error(ErrorKind::kUnsupported,
                   "linux.resources.blockIO.weightDevice: control groups v2 have no leafWeight; leave the member out");
    }
    if (!is_set(device.weight)) continue;
    const uint64_t weight = bfq ? *device.weight : io_weight_of_blkio(*device.weight);
    TRY(write(folder, bfq ? "io.bfq.weight" : "io.weight", fmt::format("{}:{} {}", device.major, device.minor, weight),
              kDeviceMember));
  }
  const auto throttle = [&](const std::vector<oci::ThrottleDevice>& devices, std::string_view key,
                            std::string_view member) -> Result<void> {
    for (const oci::ThrottleDevice& device : devices) {
      // 0 takes a v1 limit away; v2 says "max".
      const std::string rate = device.rate == 0 ? "max" : text_of(device.rate);
      TRY(write(folder, "io.max", fmt::format("{}:{} {}={}", device.major, device.minor, key, rate), member));
    }
    return {};
  };
  TRY(throttle(io.throttle_read_bps, "rbps", "linux.resources.blockIO.throttleReadBpsDevice"));
  TRY(throttle(io.throttle_write_bps, "wbps", "linux.resources.blockIO.throttleWriteBpsDevice"));
  TRY(throttle(io.throttle_read_iops, "riops", "linux.resources.blockIO.throttleReadIOPSDevice"));
  TRY(throttle(io.throttle_write_iops, "wiops", "linux.resources.blockIO.throttleWriteIOPSDevice"));
  return {};
}

Result<void> pids(const Folder& folder, int64_t limit) {
  return write(folder, "pids.max", limit < 0 ? "max" : text_of(limit), "linux.resources.pids.limit");
}

Result<void> hugepages(const Folder& folder, const std::vector<oci::HugepageLimit>& limits) {
  const bool v1 = folder.version == 1;
  for (const oci::HugepageLimit& limit : limits) {
    if (limit.page_size.empty() || limit.page_size.find_first_not_of("0123456789KMGB") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "linux.resources.hugepageLimits: \"{}\" is no page size such as 2MB",
                    limit.page_size);
    }
    const std::string prefix = "hugetlb." + limit.page_size;
    const std::string suffix = v1 ? ".limit_in_bytes" : ".max";
    constexpr std::string_view kMember = "linux.resources.hugepageLimits";
    TRY(write(folder, prefix + suffix, text_of(limit.limit), kMember));
    // The reservation limit is what makes mmap fail instead of SIGBUS later (Linux 5.7).
    const std::string reservation = fmt::format("{}.rsvd{}", prefix, suffix);
    const int error = try_write(folder, reservation, text_of(limit.limit));
    if (error != 0 && error != ENOENT) {
      return write(folder, reservation, text_of(limit.limit), kMember);
    }
  }
  return {};
}

Result<void> rdma(const Folder& folder, const std::map<std::string, oci::RdmaLimit>& limits) {
  for (const auto& [device, limit] : limits) {
    if (device.empty() || device.find_first_of(" \t\n") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "linux.resources.rdma: \"{}\" is no device name", device);
    }
    std::string value = device;
    if (limit.hca_handles) value += fmt::format(" hca_handle={}", *limit.hca_handles);
    if (limit.hca_objects) value += fmt::format(" hca_object={}", *limit.hca_objects);
    if (value == device) continue;
    TRY(write(folder, "rdma.max", value, fmt::format("linux.resources.rdma.{}", device)));
  }
  return {};
}

Result<void> unified(const Folder& folder, const std::map<std::string, std::string>& values) {
  for (const auto& [file, value] : values) {
    const std::string member = fmt::format("linux.resources.unified.{}", file);
    // The name becomes a file name in the group's folder, so it must be one and nothing that moves processes.
    if (file.empty() || file.find('/') != std::string::npos || file.find('.') == std::string::npos ||
        file.starts_with('.')) {
      return errorf(ErrorKind::kInvalid, "{}: must be a control file's name such as memory.high", member);
    }
    if (file == "cgroup.procs" || file == "cgroup.threads" || file == "cgroup.kill" || file == "cgroup.freeze") {
      return errorf(ErrorKind::kInvalid, "{}: acts on processes and is no resource", member);
    }
    // Some files take one entry for each write (io.max).
    for (const std::string_view line : cgroup_files::split(value, "\n")) TRY(write(folder, file, line, member));
  }
  return {};
}

}  // namespace hull::isolation::cgroup_apply
