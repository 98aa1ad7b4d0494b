#pragma once
// Asking systemd for a scope, through the helper program hull-systemd-cgroup (hull-oci is static; libsystemd is not).
// For this room's cgroup.cc.

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "isolation/cgroup.h"

namespace hull::isolation {

struct SystemdScope {
  std::string unit;    // hull-ID.scope
  std::string cgroup;  // absolute path in the hierarchy: /system.slice/hull-ID.scope
};

/// "slice:prefix:name" -> slice and unit. Empty means system.slice, hull and the id (user.slice when rootless).
struct SystemdNames {
  std::string slice, unit;
};
Result<SystemdNames> parse_systemd_path(const std::string& cgroups_path, const std::string& container_id);
/// "a-b-c.slice" -> "/a.slice/a-b.slice/a-b-c.slice"; "-.slice" -> "/". kInvalid for what is no slice name.
Result<std::string> expand_slice(const std::string& slice);

/// Starts the scope with `pid` in it and waits until systemd has done so. kUnsupported where systemd doesn't run or the
/// helper isn't installed.
Result<SystemdScope> start_systemd_scope(const CgroupRequest& request, const oci::Resources* resources, pid_t pid);
/// Puts a process into a delegated scope of the user's systemd: the one that is there (then into its group "commands"),
/// or a new one.
Result<void> attach_to_user_scope(const std::string& unit, const std::string& slice, pid_t pid);
/// Stops the unit; one that is gone is success.
Result<void> stop_systemd_unit(const std::string& unit);
/// Sets the resource properties of a running unit (`update`), so that systemd does not undo what was written.
Result<void> update_systemd_unit(const std::string& unit, const oci::Resources& resources);

}  // namespace hull::isolation
