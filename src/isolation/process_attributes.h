#pragma once
// process.* of config.json as the numbers and structs that system calls take. Everything returned is plain data that
// the child after clone may use; everything that can be wrong is found here, in the parent.

#include <sys/resource.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

/// One prlimit64(2): `limit` has the layout of struct rlimit64; UINT64_MAX is RLIM64_INFINITY.
struct RlimitValue {
  int resource = 0;
  struct rlimit64 limit = {};
};
/// "RLIMIT_NOFILE" -> 7. kInvalid for a name that Linux doesn't have (the specification makes it an error).
Result<int> rlimit_number(std::string_view name);
/// "RLIMIT_NOFILE"; empty for an unknown number.
std::string_view rlimit_name(int resource);
/// All of them; doubled types and soft above hard are kInvalid.
Result<std::vector<RlimitValue>> resolve_rlimits(const std::vector<oci::Rlimit>& limits);

/// The kernel's struct sched_attr, first and second version (56 bytes, Linux 5.3), for sched_setattr(2).
struct SchedAttr {
  uint32_t size = 56;
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_ns = 0;
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
  uint32_t util_min = 0;
  uint32_t util_max = 0;
};
static_assert(sizeof(SchedAttr) == 56);
/// kInvalid for unknown policies and flags, and for members that the policy doesn't take (nice with SCHED_FIFO,
/// deadline members without SCHED_DEADLINE).
Result<SchedAttr> resolve_scheduler(const oci::Scheduler& scheduler);

/// The value for ioprio_set(IOPRIO_WHO_PROCESS, 0, value): class << 13 | priority.
Result<int> resolve_io_priority(const oci::IoPriority& priority);

/// A CPU mask for sched_setaffinity(0, sizeof bits, bits). The kernel's own upper bound of CPUs is 8192.
struct CpuMask {
  static constexpr size_t kMaxCpus = 8192;
  std::array<unsigned long, kMaxCpus / (8 * sizeof(unsigned long))> bits = {};
  bool test(size_t cpu) const { return cpu < kMaxCpus && ((bits[cpu / 64] >> (cpu % 64)) & 1U) != 0; }
  void set(size_t cpu) { bits[cpu / 64] |= 1UL << (cpu % 64); }
  size_t count() const;
};
/// Reads cpuset(7)'s list format, "0-3,7" (also "0-6:2/3" is refused, as the specification knows no strides); spaces
/// around elements are allowed. kInvalid when empty, malformed or above kMaxCpus. `member` names it in errors.
Result<CpuMask> parse_cpu_list(std::string_view list, std::string_view member);

/// The value for personality(2).
Result<unsigned long> resolve_personality(const oci::Personality& personality);

/// The arguments of set_mempolicy(2): mode (with its MPOL_F_* flags ored in), nodemask, max_node (bits, as the kernel
/// counts: one more than the highest).
struct MemoryPolicyValue {
  int mode = 0;
  std::array<unsigned long, 16> nodemask = {};
  unsigned long max_node = 0;
};
Result<MemoryPolicyValue> resolve_memory_policy(const oci::MemoryPolicy& policy);

}  // namespace hull::isolation
