#pragma once
// Capability names, numbers and masks (capabilities(7)).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

/// The five sets of a process as bit masks, bit N for capability N. Plain: the child after clone uses it as it is.
/// For capset(2), _LINUX_CAPABILITY_VERSION_3 takes the low 32 bits first, then the high 32 bits.
struct CapabilitySets {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;
  bool operator==(const CapabilitySets&) const = default;
};

/// The highest capability number of the running kernel (/proc/sys/kernel/cap_last_cap; by prctl where /proc can't be
/// read). Read once per process.
int last_capability();
/// All capabilities that the running kernel has.
uint64_t all_capabilities();

/// "CAP_CHOWN" for 0; empty for a number without a name.
std::string_view capability_name(int number);
/// The number of "CAP_SYS_ADMIN", "sys_admin" or "SYS_ADMIN"; nothing when no kernel known to Hull has it.
std::optional<int> capability_number(std::string_view name);

/// The names in a mask, by number. Numbers without a name are left out.
std::vector<std::string> capability_names(uint64_t mask);

struct ResolvedCapabilities {
  CapabilitySets sets;
  /// Names that were asked for and that this kernel doesn't know. The specification wants a warning, not a failure
  /// (config.md, "capabilities"); each stands here once.
  std::vector<std::string> ignored;
};
/// Turns the document's five lists into masks. What the kernel lacks is ignored and listed. Ambient capabilities that
/// are not both permitted and inheritable are dropped from the ambient set, as the kernel would refuse them
/// (PR_CAP_AMBIENT_RAISE); permitted capabilities missing from effective stay so.
ResolvedCapabilities resolve_capabilities(const oci::Capabilities& wanted);

/// What Docker and Podman give a container by default: 14 capabilities.
inline constexpr uint64_t kDefaultCapabilities =
    (1ULL << 0) | (1ULL << 1) | (1ULL << 3) | (1ULL << 4) |  // chown, dac_override, fowner, fsetid
    (1ULL << 5) | (1ULL << 6) | (1ULL << 7) | (1ULL << 8) |  // kill, setgid, setuid, setpcap
    (1ULL << 10) | (1ULL << 13) | (1ULL << 18) |             // net_bind_service, net_raw, sys_chroot
    (1ULL << 27) | (1ULL << 29) | (1ULL << 31);              // mknod, audit_write, setfcap

}  // namespace hull::isolation
