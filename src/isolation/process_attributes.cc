#include "isolation/process_attributes.h"

#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <sys/personality.h>

#include <bit>
#include <charconv>
#include <optional>
#include <utility>

#include "base/error_format.h"

namespace hull::isolation {

namespace {

struct NamedNumber {
  std::string_view name;
  uint64_t number;
};

template <size_t N>
std::optional<uint64_t> number_of(const NamedNumber (&table)[N], std::string_view name) {
  for (const NamedNumber& entry : table) {
    if (entry.name == name) return entry.number;
  }
  return std::nullopt;
}

template <size_t N>
std::string all_names(const NamedNumber (&table)[N]) {
  std::string names;
  for (const NamedNumber& entry : table) {
    if (!names.empty()) names += ", ";
    names += entry.name;
  }
  return names;
}

constexpr NamedNumber kRlimits[] = {
    {"RLIMIT_CPU", RLIMIT_CPU},           {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_DATA", RLIMIT_DATA},         {"RLIMIT_STACK", RLIMIT_STACK},
    {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},   {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},       {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},     {"RLIMIT_RTTIME", RLIMIT_RTTIME},
};

// SCHED_ISO has a number but no kernel implements it; the kernel's EINVAL says so.
constexpr uint64_t kSchedIso = 4;
constexpr NamedNumber kPolicies[] = {
    {"SCHED_OTHER", SCHED_NORMAL},      {"SCHED_FIFO", SCHED_FIFO}, {"SCHED_RR", SCHED_RR},
    {"SCHED_BATCH", SCHED_BATCH},       {"SCHED_ISO", kSchedIso},   {"SCHED_IDLE", SCHED_IDLE},
    {"SCHED_DEADLINE", SCHED_DEADLINE},
};
constexpr NamedNumber kSchedFlags[] = {
    {"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},   {"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
    {"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},         {"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
    {"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},       {"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
};

constexpr NamedNumber kIoClasses[] = {{"IOPRIO_CLASS_RT", IOPRIO_CLASS_RT},
                                      {"IOPRIO_CLASS_BE", IOPRIO_CLASS_BE},
                                      {"IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE}};

// MPOL_WEIGHTED_INTERLEAVE came with Linux 6.9, after Debian 12's headers.
constexpr uint64_t kMpolWeightedInterleave = 6;
constexpr NamedNumber kMemoryModes[] = {
    {"MPOL_DEFAULT", MPOL_DEFAULT},       {"MPOL_BIND", MPOL_BIND},
    {"MPOL_INTERLEAVE", MPOL_INTERLEAVE}, {"MPOL_WEIGHTED_INTERLEAVE", kMpolWeightedInterleave},
    {"MPOL_PREFERRED", MPOL_PREFERRED},   {"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY},
    {"MPOL_LOCAL", MPOL_LOCAL},
};
constexpr NamedNumber kMemoryFlags[] = {
    {"MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING},
    {"MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES},
    {"MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES},
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\n')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

/// Calls set(n) for each number of a list like "0-3,7"; all below `limit`.
template <typename F>
Result<void> for_each_in_list(std::string_view list, size_t limit, std::string_view member, F&& set) {
  const auto wrong = [&](std::string_view part) {
    return errorf(ErrorKind::kInvalid, "{}: \"{}\" is not a list of numbers and ranges such as 0-3,7", member,
                  part.substr(0, 60));
  };
  const auto number = [&](std::string_view text) -> Result<size_t> {
    size_t value = 0;
    const auto [rest, code] = std::from_chars(text.begin(), text.end(), value);
    if (text.empty() || code != std::errc() || rest != text.end()) return wrong(list);
    if (value >= limit) {
      return errorf(ErrorKind::kInvalid, "{}: {} is above the highest number that is possible, {}", member, value,
                    limit - 1);
    }
    return value;
  };
  if (trim(list).empty()) return errorf(ErrorKind::kInvalid, "{}: the list is empty", member);
  for (size_t at = 0; at <= list.size();) {
    const size_t comma = std::min(list.find(',', at), list.size());
    const std::string_view part = trim(list.substr(at, comma - at));
    const size_t dash = part.find('-');
    TRY_ASSIGN(const size_t first, number(part.substr(0, dash)));
    size_t last = first;
    if (dash != std::string_view::npos) {
      TRY_ASSIGN(last, number(part.substr(dash + 1)));
    }
    if (last < first) return errorf(ErrorKind::kInvalid, "{}: the range {} runs backwards", member, part);
    for (size_t i = first; i <= last; ++i) set(i);
    at = comma + 1;
  }
  return {};
}

}  // namespace

Result<int> rlimit_number(std::string_view name) {
  const std::optional<uint64_t> number = number_of(kRlimits, name);
  if (number) return static_cast<int>(*number);
  return errorf(ErrorKind::kInvalid, "process.rlimits: \"{}\" is not known; Linux has {}", name.substr(0, 60),
                all_names(kRlimits));
}

std::string_view rlimit_name(int resource) {
  for (const NamedNumber& entry : kRlimits) {
    if (std::cmp_equal(entry.number, resource)) return entry.name;
  }
  return {};
}

Result<std::vector<RlimitValue>> resolve_rlimits(const std::vector<oci::Rlimit>& limits) {
  std::vector<RlimitValue> out;
  uint64_t seen = 0;
  for (const oci::Rlimit& limit : limits) {
    TRY_ASSIGN(const int resource, rlimit_number(limit.type));
    if ((seen >> resource & 1U) != 0) {
      return errorf(ErrorKind::kInvalid, "process.rlimits: {} is there twice", limit.type);
    }
    seen |= 1ULL << resource;
    if (limit.soft > limit.hard) {
      return errorf(ErrorKind::kInvalid, "process.rlimits: {}: soft limit {} is above hard limit {}", limit.type,
                    limit.soft, limit.hard);
    }
    out.push_back({resource, {.rlim_cur = limit.soft, .rlim_max = limit.hard}});
  }
  return out;
}

Result<SchedAttr> resolve_scheduler(const oci::Scheduler& scheduler) {
  const std::optional<uint64_t> policy = number_of(kPolicies, scheduler.policy);
  if (!policy) {
    return errorf(ErrorKind::kInvalid, "process.scheduler.policy: \"{}\" is not one of {}",
                  scheduler.policy.substr(0, 60), all_names(kPolicies));
  }
  SchedAttr attr;
  attr.policy = static_cast<uint32_t>(*policy);
  for (const std::string& name : scheduler.flags) {
    const std::optional<uint64_t> flag = number_of(kSchedFlags, name);
    if (!flag) {
      return errorf(ErrorKind::kInvalid, "process.scheduler.flags: \"{}\" is not one of {}", name.substr(0, 60),
                    all_names(kSchedFlags));
    }
    attr.flags |= *flag;
  }
  const bool realtime = *policy == SCHED_FIFO || *policy == SCHED_RR;
  if (scheduler.nice < -20 || scheduler.nice > 19) {
    return errorf(ErrorKind::kInvalid, "process.scheduler.nice: {} is outside -20 to 19", scheduler.nice);
  }
  if (scheduler.nice != 0 && *policy != SCHED_NORMAL && *policy != SCHED_BATCH && *policy != SCHED_IDLE) {
    return errorf(ErrorKind::kInvalid, "process.scheduler.nice: is only for SCHED_OTHER and SCHED_BATCH, not {}",
                  scheduler.policy);
  }
  if (scheduler.priority != 0 && !realtime) {
    return errorf(ErrorKind::kInvalid, "process.scheduler.priority: is only for SCHED_FIFO and SCHED_RR, not {}",
                  scheduler.policy);
  }
  if (realtime && (scheduler.priority < 1 || scheduler.priority > 99)) {
    return errorf(ErrorKind::kInvalid, "process.scheduler.priority: {} is outside 1 to 99, which {} needs",
                  scheduler.priority, scheduler.policy);
  }
  const bool deadline = scheduler.runtime_ns != 0 || scheduler.deadline_ns != 0 || scheduler.period_ns != 0;
  if (deadline && *policy != SCHED_DEADLINE) {
    return errorf(ErrorKind::kInvalid,
                  "process.scheduler: runtime, deadline and period are only for SCHED_DEADLINE, not {}",
                  scheduler.policy);
  }
  attr.nice = scheduler.nice;
  attr.priority = static_cast<uint32_t>(scheduler.priority);
  attr.runtime_ns = scheduler.runtime_ns;
  attr.deadline_ns = scheduler.deadline_ns;
  attr.period_ns = scheduler.period_ns;
  return attr;
}

Result<int> resolve_io_priority(const oci::IoPriority& priority) {
  const std::optional<uint64_t> io_class = number_of(kIoClasses, priority.io_class);
  if (!io_class) {
    return errorf(ErrorKind::kInvalid, "process.ioPriority.class: \"{}\" is not one of {}",
                  priority.io_class.substr(0, 60), all_names(kIoClasses));
  }
  if (priority.priority < 0 || priority.priority > 7) {
    return errorf(ErrorKind::kInvalid, "process.ioPriority.priority: {} is outside 0 to 7", priority.priority);
  }
  constexpr int kClassShift = 13;
  return static_cast<int>(*io_class) << kClassShift | priority.priority;
}

size_t CpuMask::count() const {
  size_t count = 0;
  for (const unsigned long word : bits) count += static_cast<size_t>(std::popcount(word));
  return count;
}

Result<CpuMask> parse_cpu_list(std::string_view list, std::string_view member) {
  CpuMask mask;
  TRY(for_each_in_list(list, CpuMask::kMaxCpus, member, [&](size_t cpu) { mask.set(cpu); }));
  return mask;
}

Result<unsigned long> resolve_personality(const oci::Personality& wanted) {
  if (!wanted.flags.empty()) {
    return errorf(ErrorKind::kInvalid, "linux.personality.flags: \"{}\": the specification defines no flags",
                  wanted.flags.front().substr(0, 60));
  }
  if (wanted.domain == "LINUX") return static_cast<unsigned long>(PER_LINUX);
  if (wanted.domain == "LINUX32") return static_cast<unsigned long>(PER_LINUX32);
  return errorf(ErrorKind::kInvalid, "linux.personality.domain: \"{}\" is not one of LINUX, LINUX32",
                wanted.domain.substr(0, 60));
}

Result<MemoryPolicyValue> resolve_memory_policy(const oci::MemoryPolicy& policy) {
  const std::optional<uint64_t> mode = number_of(kMemoryModes, policy.mode);
  if (!mode) {
    return errorf(ErrorKind::kInvalid, "linux.memoryPolicy.mode: \"{}\" is not one of {}", policy.mode.substr(0, 60),
                  all_names(kMemoryModes));
  }
  MemoryPolicyValue out;
  out.mode = static_cast<int>(*mode);
  for (const std::string& name : policy.flags) {
    const std::optional<uint64_t> flag = number_of(kMemoryFlags, name);
    if (!flag) {
      return errorf(ErrorKind::kInvalid, "linux.memoryPolicy.flags: \"{}\" is not one of {}", name.substr(0, 60),
                    all_names(kMemoryFlags));
    }
    out.mode |= static_cast<int>(*flag);
  }
  const bool takes_none = *mode == MPOL_DEFAULT || *mode == MPOL_LOCAL;
  if (takes_none && !policy.nodes.empty()) {
    return errorf(ErrorKind::kInvalid, "linux.memoryPolicy.nodes: must be empty with {}", policy.mode);
  }
  // MPOL_PREFERRED without nodes means the local node.
  if (!takes_none && *mode != MPOL_PREFERRED && policy.nodes.empty()) {
    return errorf(ErrorKind::kInvalid, "linux.memoryPolicy.nodes: {} needs at least one node", policy.mode);
  }
  if (!policy.nodes.empty()) {
    constexpr size_t kMaxNodes = 1024;  // CONFIG_NODES_SHIFT is at most 10
    size_t highest = 0;
    TRY(for_each_in_list(policy.nodes, kMaxNodes, "linux.memoryPolicy.nodes", [&](size_t node) {
      out.nodemask[node / 64] |= 1UL << (node % 64);
      highest = std::max(highest, node);
    }));
    // The kernel reads max_node - 1 bits.
    out.max_node = highest + 2;
  }
  return out;
}

}  // namespace hull::isolation
