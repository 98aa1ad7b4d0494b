#pragma once
// Control groups of a user who has no rights on the host: where the user may make some, and how processes get there.
//
// A group is the user's when its folder and its cgroup.procs can be written (an administrator's chown, or what systemd
// delegates). In the v2 hierarchy that is not enough: a process can only be started in a group when the user may also
// write the cgroup.procs of the nearest group above both it and the starter (cgroups(7), "Delegation containment").
// So the user's groups are made below the highest group of the user's above the command itself; or, where the user's
// systemd runs (its groups are its own to change), in a scope that it makes and into which it moves the command.

#include <string>
#include <vector>

#include "base/error.h"
#include "isolation/cgroup.h"

namespace hull::isolation {

/// Whether this process could make a group at `path` (below the mount's top, no leading "/") and start others in it.
/// `own`: its own group there.
bool may_make_group(const CgroupMount& mount, const std::string& path, const std::string& own);

struct Delegation {
  /// Below which groups are made, in every hierarchy where that is allowed; no leading "/". Empty: nowhere.
  std::string group;
  /// hull.toml or --cgroup-parent named it: groups are made in it and in nothing below.
  bool named = false;
  /// It is a scope of the user's systemd, which may not be there before enter_delegation().
  bool scope = false;
  /// What can be limited there: names of controllers of v1 and v2.
  std::vector<std::string> controllers;
  bool has(std::string_view controller) const;
};

/// Looks, and changes nothing. `wanted`: what hull.toml or --cgroup-parent names; counts when it is absolute and the
/// user's.
Delegation find_delegation(const CgroupHost& host, const std::string& wanted);

/// Before processes are started in groups below: gets this process to where it may, into the group "commands" beside
/// them when it is in the delegated group itself (a group with processes hands no controllers down), with the other
/// processes there. `lock_file`: held meanwhile, so that commands do it one after the other.
Result<void> enter_delegation(const CgroupHost& host, const Delegation& delegation, const std::string& lock_file);

}  // namespace hull::isolation
