#pragma once
// Namespace kinds as the kernel numbers and names them, and the texts of the files that set namespaces up.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

/// CLONE_NEWPID and so on. CLONE_NEWTIME (0x80) is valid for clone3, unshare and setns, not for clone.
uint64_t clone_flag(oci::NamespaceType type);
/// The name below /proc/PID/ns: "pid", "net", "mnt", "ipc", "uts", "user", "cgroup", "time".
std::string_view proc_name(oci::NamespaceType type);

/// The CLONE_NEW* flags of the namespaces that are to be new (no path), and of those that are joined by path.
struct NamespaceFlags {
  uint64_t fresh = 0;
  uint64_t joined = 0;
};
NamespaceFlags namespace_flags(const std::vector<oci::Namespace>& namespaces);

/// Text for /proc/PID/uid_map and gid_map: "container host size\n" for each; fits one write(2) (340 extents).
std::string id_map_text(const std::vector<oci::IdMapping>& mappings);
/// The host id of `id` under the mappings, or kInvalid naming `what` when it has none. Empty mappings mean identity.
Result<uint32_t> map_to_host(const std::vector<oci::IdMapping>& mappings, uint32_t id, std::string_view what);

/// Text for /proc/self/timens_offsets (write before the first process enters; Linux 5.6).
std::string time_offsets_text(const std::map<std::string, oci::TimeOffset>& offsets);

/// A sysctl name as the path below /proc/sys: "net.ipv4.ip_forward" and "net/ipv4/ip_forward" -> "net/ipv4/ip_forward".
/// The result is relative, has no ".." and no empty part. kInvalid otherwise.
Result<std::string> sysctl_path(std::string_view name);

}  // namespace hull::isolation
