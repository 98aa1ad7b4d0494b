#pragma once
// Writing the id maps of user namespaces, and making user namespaces that only carry a map (id-mapped mounts).

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"

namespace hull::runtime {

struct IdMaps {
  std::vector<oci::IdMapping> uids, gids;
};

/// True when this process may write any map itself (CAP_SETUID and CAP_SETGID in its user namespace).
bool can_write_maps();
/// CAP_SYS_ADMIN is effective: mounts can be prepared before the container's user namespace exists.
bool can_mount();
/// The capabilities that this process may give away, as a bit mask.
uint64_t permitted_capabilities();
/// False in a user namespace other than the host's, where mknod of devices is refused.
bool in_initial_user_namespace();

/// Writes both maps of a process that is alone in a new user namespace; without privilege through newuidmap(1) and
/// newgidmap(1) when the map needs them. *denied_setgroups tells whether setgroups had to be given up.
Result<void> write_id_maps(pid_t pid, const IdMaps& maps, bool* denied_setgroups);
/// Whether write_id_maps will have to deny setgroups.
bool must_deny_setgroups(const IdMaps& maps);
/// A user namespace with the maps and no process in it.
Result<UniqueFd> make_user_namespace(const IdMaps& maps);

}  // namespace hull::runtime
