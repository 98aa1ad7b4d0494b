// What a group has used.

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "base/error_format.h"
#include "isolation/cgroup.h"
#include "isolation/cgroup_files.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

using Folder = Cgroup::Folder;
using cgroup_files::key_values;
using cgroup_files::read_number;
using cgroup_files::read_optional;
using cgroup_files::split;
using cgroup_files::to_number;
using cgroup_files::trimmed;

constexpr uint64_t kNsPerUs = 1000;
constexpr uint64_t kNsPerTick = 10'000'000;  // USER_HZ is 100 in every Linux ABI

void cpu_v1(const Cgroup& group, CgroupStats& stats) {
  if (const Folder* folder = group.find("cpu")) {
    if (const auto text = read_optional(*folder, "cpu.stat")) {
      for (const auto& [key, value] : key_values(*text)) {
        if (key == "nr_periods") stats.cpu_periods = value;
        if (key == "nr_throttled") stats.cpu_throttled_periods = value;
        if (key == "throttled_time") stats.cpu_throttled_ns = value;
      }
    }
  }
  const Folder* folder = group.find("cpuacct");
  if (folder == nullptr) return;
  stats.cpu_total_ns = read_number(*folder, "cpuacct.usage").value_or(0);
  if (const auto text = read_optional(*folder, "cpuacct.usage_percpu")) {
    for (const std::string_view part : split(*text, " \n")) stats.cpu_percpu_ns.push_back(to_number(part).value_or(0));
  }
  // Nanoseconds where the kernel has them (4.12), clock ticks before.
  const auto user = read_number(*folder, "cpuacct.usage_user");
  const auto kernel = read_number(*folder, "cpuacct.usage_sys");
  if (user && kernel) {
    stats.cpu_user_ns = *user;
    stats.cpu_kernel_ns = *kernel;
  } else if (const auto text = read_optional(*folder, "cpuacct.stat")) {
    for (const auto& [key, value] : key_values(*text)) {
      if (key == "user") stats.cpu_user_ns = value * kNsPerTick;
      if (key == "system") stats.cpu_kernel_ns = value * kNsPerTick;
    }
  }
}

void cpu_v2(const Folder& folder, CgroupStats& stats) {
  const auto text = read_optional(folder, "cpu.stat");
  if (!text) return;
  for (const auto& [key, value] : key_values(*text)) {
    if (key == "usage_usec") stats.cpu_total_ns = value * kNsPerUs;
    if (key == "user_usec") stats.cpu_user_ns = value * kNsPerUs;
    if (key == "system_usec") stats.cpu_kernel_ns = value * kNsPerUs;
    if (key == "nr_periods") stats.cpu_periods = value;
    if (key == "nr_throttled") stats.cpu_throttled_periods = value;
    if (key == "throttled_usec") stats.cpu_throttled_ns = value * kNsPerUs;
  }
}

CgroupStats::Memory memory_entry_v1(const Folder& folder, const std::string& kind) {
  const std::string prefix = kind.empty() ? "memory." : "memory." + kind + ".";
  return {.usage = read_number(folder, prefix + "usage_in_bytes").value_or(0),
          .max_usage = read_number(folder, prefix + "max_usage_in_bytes").value_or(0),
          .limit = read_number(folder, prefix + "limit_in_bytes").value_or(0),
          .failcnt = read_number(folder, prefix + "failcnt").value_or(0)};
}

uint64_t value_of(const std::optional<std::string>& text, std::string_view wanted) {
  if (!text) return 0;
  for (const auto& [key, value] : key_values(*text)) {
    if (key == wanted) return value;
  }
  return 0;
}

void memory_v1(const Folder& folder, CgroupStats& stats) {
  if (const auto text = read_optional(folder, "memory.stat")) {
    for (const auto& [key, value] : key_values(*text)) stats.memory_raw.emplace(key, value);
  }
  const auto cache = stats.memory_raw.find("cache");
  if (cache != stats.memory_raw.end()) stats.memory_cache = cache->second;
  stats.memory = memory_entry_v1(folder, "");
  stats.memory_swap = memory_entry_v1(folder, "memsw");
  stats.memory_kernel = memory_entry_v1(folder, "kmem");
  stats.memory_kernel_tcp = memory_entry_v1(folder, "kmem.tcp");
  stats.oom_kills = value_of(read_optional(folder, "memory.oom_control"), "oom_kill");
}

void memory_v2(const Folder& folder, CgroupStats& stats) {
  if (const auto text = read_optional(folder, "memory.stat")) {
    for (const auto& [key, value] : key_values(*text)) stats.memory_raw.emplace(key, value);
  }
  const auto file = stats.memory_raw.find("file");
  if (file != stats.memory_raw.end()) stats.memory_cache = file->second;
  const auto events = read_optional(folder, "memory.events");
  stats.memory = {.usage = read_number(folder, "memory.current").value_or(0),
                  .max_usage = read_number(folder, "memory.peak").value_or(0),
                  .limit = read_number(folder, "memory.max").value_or(0),
                  .failcnt = value_of(events, "max")};
  // v1's sense, as runc reports it: memory and swap together.
  const uint64_t swap_limit = read_number(folder, "memory.swap.max").value_or(0);
  constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  const bool unlimited = swap_limit == kNone || stats.memory.limit == kNone;
  stats.memory_swap = {.usage = stats.memory.usage + read_number(folder, "memory.swap.current").value_or(0),
                       .max_usage = 0,
                       .limit = unlimited ? kNone : stats.memory.limit + swap_limit,
                       .failcnt = value_of(read_optional(folder, "memory.swap.events"), "max")};
  stats.oom_kills = value_of(events, "oom_kill");
}

std::vector<CgroupStats::BlkioEntry> blkio_entries(const std::optional<std::string>& text) {
  std::vector<CgroupStats::BlkioEntry> out;
  if (!text) return out;
  // "8:0 Read 1282048"; bfq.time and sectors have no operation: "8:0 6792".
  for (const std::string_view line : split(*text, "\n")) {
    const std::vector<std::string_view> parts = split(line, " :");
    if (parts.size() != 3 && parts.size() != 4) continue;
    const auto major = to_number(parts[0]);
    const auto minor = to_number(parts[1]);
    const auto value = to_number(parts.back());
    if (!major || !minor || !value) continue;
    out.push_back({.major = *major,
                   .minor = *minor,
                   .value = *value,
                   .op = parts.size() == 4 ? std::string(parts[2]) : std::string()});
  }
  return out;
}

void blkio_v1(const Folder& folder, CgroupStats& stats) {
  struct Source {
    const char* name;
    const char* bfq;
    const char* throttle;
  };
  static constexpr std::array<Source, 8> kSources = {{
      {"ioServiceBytesRecursive", "blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"},
      {"ioServicedRecursive", "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"},
      {"ioQueueRecursive", "blkio.bfq.io_queued_recursive", nullptr},
      {"ioServiceTimeRecursive", "blkio.bfq.io_service_time_recursive", nullptr},
      {"ioWaitTimeRecursive", "blkio.bfq.io_wait_time_recursive", nullptr},
      {"ioMergedRecursive", "blkio.bfq.io_merged_recursive", nullptr},
      {"ioTimeRecursive", "blkio.bfq.time_recursive", nullptr},
      {"sectorsRecursive", "blkio.bfq.sectors_recursive", nullptr},
  }};
  for (const Source& source : kSources) {
    std::vector<CgroupStats::BlkioEntry> entries = blkio_entries(read_optional(folder, source.bfq));
    if (entries.empty() && source.throttle != nullptr) {
      entries = blkio_entries(read_optional(folder, source.throttle));
      if (entries.empty()) {
        std::string plain = source.throttle;
        plain.resize(plain.size() - std::string_view("_recursive").size());
        entries = blkio_entries(read_optional(folder, plain));
      }
    }
    if (!entries.empty()) stats.blkio[source.name] = std::move(entries);
  }
}

void io_v2(const Folder& folder, CgroupStats& stats) {
  const auto text = read_optional(folder, "io.stat");
  if (!text) return;
  // "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0"
  for (const std::string_view line : split(*text, "\n")) {
    const std::vector<std::string_view> parts = split(line, " ");
    const std::vector<std::string_view> numbers = split(parts.empty() ? std::string_view() : parts[0], ":");
    if (numbers.size() != 2) continue;
    const auto major = to_number(numbers[0]);
    const auto minor = to_number(numbers[1]);
    if (!major || !minor) continue;
    for (size_t i = 1; i < parts.size(); ++i) {
      const size_t equals = parts[i].find('=');
      if (equals == std::string_view::npos) continue;
      const auto value = to_number(parts[i].substr(equals + 1));
      const std::string_view key = parts[i].substr(0, equals);
      const char* op = nullptr;
      if (key == "rbytes" || key == "rios") op = "Read";
      if (key == "wbytes" || key == "wios") op = "Write";
      if (op == nullptr || !value) continue;
      stats.blkio[key.ends_with("bytes") ? "ioServiceBytesRecursive" : "ioServicedRecursive"].push_back(
          {.major = *major, .minor = *minor, .value = *value, .op = op});
    }
  }
}

/// "hugetlb.2MB.max" -> "2MB", for each page size that has files here.
void hugetlb(const Folder& folder, CgroupStats& stats) {
  const Result<int> dir = folder.dir_fd();
  if (!dir.ok()) return;
  const bool v1 = folder.version == 1;
  const Result<std::vector<std::string>> sizes = huge_page_sizes();
  if (!sizes.ok()) return;
  for (const std::string& size : *sizes) {
    const std::string prefix = "hugetlb." + size;
    const auto usage = read_number(folder, prefix + (v1 ? ".usage_in_bytes" : ".current"));
    if (!usage) continue;
    CgroupStats::Hugetlb entry;
    entry.usage = *usage;
    if (v1) {
      entry.max = read_number(folder, prefix + ".max_usage_in_bytes").value_or(0);
      entry.failcnt = read_number(folder, prefix + ".failcnt").value_or(0);
    } else {
      entry.failcnt = value_of(read_optional(folder, prefix + ".events"), "max");
    }
    stats.hugetlb[size] = entry;
  }
}

std::vector<CgroupStats::Rdma> rdma_entries(const std::optional<std::string>& text) {
  std::vector<CgroupStats::Rdma> out;
  if (!text) return out;
  for (const std::string_view line : split(*text, "\n")) {
    const std::vector<std::string_view> parts = split(line, " =");
    if (parts.size() != 5) continue;
    CgroupStats::Rdma entry;
    entry.device = parts[0];
    for (size_t i = 1; i + 1 < parts.size(); i += 2) {
      const auto value = static_cast<uint32_t>(std::min<uint64_t>(to_number(parts[i + 1]).value_or(0), UINT32_MAX));
      if (parts[i] == "hca_handle") entry.hca_handles = value;
      if (parts[i] == "hca_object") entry.hca_objects = value;
    }
    out.push_back(std::move(entry));
  }
  return out;
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull ...\n" (Linux 4.20, CONFIG_PSI)
std::optional<CgroupStats::Pressure> pressure(const Folder& folder, const std::string& file) {
  const auto text = read_optional(folder, file);
  if (!text) return std::nullopt;
  CgroupStats::Pressure out;
  for (const std::string_view line : split(*text, "\n")) {
    const std::vector<std::string_view> parts = split(line, " =");
    if (parts.size() != 9) continue;
    const bool some = parts[0] == "some";
    const auto average = [](std::string_view part) {
      double value = 0;
      std::from_chars(part.begin(), part.end(), value);
      return value;
    };
    (some ? out.some_avg10 : out.full_avg10) = average(parts[2]);
    (some ? out.some_avg60 : out.full_avg60) = average(parts[4]);
    (some ? out.some_avg300 : out.full_avg300) = average(parts[6]);
    (some ? out.some_total : out.full_total) = to_number(parts[8]).value_or(0);
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> huge_page_sizes() {
  std::vector<std::string> out;
  Result<UniqueFd> dir = sys::open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY);
  if (!dir.ok()) {
    if (dir.error().error_number() == ENOENT) return out;
    return std::move(dir).error();
  }
  for (const std::string& name : cgroup_files::sub_folders(dir->get())) {
    // "hugepages-2048kB"; the controller writes 2MB, 64KB, 1GB.
    std::string_view text = name;
    if (!text.starts_with("hugepages-") || !text.ends_with("kB")) continue;
    text = text.substr(10, text.size() - 12);
    const auto kilobytes = to_number(text);
    if (!kilobytes || *kilobytes == 0) continue;
    if (*kilobytes % (1024 * 1024) == 0) {
      out.push_back(fmt::format("{}GB", *kilobytes / (1024 * 1024)));
    } else if (*kilobytes % 1024 == 0) {
      out.push_back(fmt::format("{}MB", *kilobytes / 1024));
    } else {
      out.push_back(fmt::format("{}KB", *kilobytes));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<CgroupStats> Cgroup::stats() const {
  if (folders_.empty() || is_gone()) return Error(ErrorKind::kNotFound, "the container's control group is gone");
  CgroupStats stats;
  const Folder* v2 = unified();
  if (find("cpuacct") != nullptr || (find("cpu") != nullptr && find("cpu")->version == 1)) {
    cpu_v1(*this, stats);
  } else if (v2 != nullptr) {
    cpu_v2(*v2, stats);
  }
  if (const Folder* folder = find("cpuset")) {
    const bool v1 = folder->version == 1;
    const auto list = [&](const char* v1_file, const char* v2_file) {
      const auto text = read_optional(*folder, v1 ? v1_file : v2_file);
      return text ? std::string(trimmed(*text)) : std::string();
    };
    stats.cpuset_cpus = list("cpuset.cpus", "cpuset.cpus.effective");
    stats.cpuset_mems = list("cpuset.mems", "cpuset.mems.effective");
  }
  if (const Folder* folder = find("memory")) {
    folder->version == 1 ? memory_v1(*folder, stats) : memory_v2(*folder, stats);
  }
  if (const Folder* folder = find("pids")) {
    stats.pids_current = read_number(*folder, "pids.current").value_or(0);
    const uint64_t limit = read_number(*folder, "pids.max").value_or(0);
    stats.pids_limit = limit == std::numeric_limits<uint64_t>::max() ? 0 : limit;
  } else if (const Result<std::vector<pid_t>> inside = processes(); inside.ok()) {
    stats.pids_current = inside->size();
  }
  if (const Folder* folder = find("blkio")) blkio_v1(*folder, stats);
  if (const Folder* folder = find("io")) io_v2(*folder, stats);
  if (const Folder* folder = find("hugetlb")) hugetlb(*folder, stats);
  if (const Folder* folder = find("rdma")) {
    stats.rdma_current = rdma_entries(read_optional(*folder, "rdma.current"));
    stats.rdma_limit = rdma_entries(read_optional(*folder, "rdma.max"));
  }
  if (v2 != nullptr) {
    stats.cpu_pressure = pressure(*v2, "cpu.pressure");
    stats.memory_pressure = pressure(*v2, "memory.pressure");
    stats.io_pressure = pressure(*v2, "io.pressure");
  }
  return stats;
}

Result<uint64_t> Cgroup::oom_kill_count() const {
  const Folder* folder = find("memory");
  if (folder == nullptr) return uint64_t{0};
  return value_of(read_optional(*folder, folder->version == 1 ? "memory.oom_control" : "memory.events"), "oom_kill");
}

}  // namespace hull::isolation
