#pragma once
// The control groups of an ordinary user's workloads: what was delegated to the user (isolation/delegation.h) and what
// follows from that. For root none of it counts.

#include <string>

#include "engine/config.h"
#include "engine/engine.h"
#include "isolation/delegation.h"

namespace hull::engine {

/// Below which a workload's group is, in every hierarchy, as a clean path without leading "/". Empty for an ordinary
/// user who may make none.
std::string cgroup_parent_of(const Config& config, const Settings& settings);

/// The same for an ordinary user, with what can be limited there.
struct UserGroup {
  isolation::Delegation delegation;
  std::string parent;
};
UserGroup find_user_group(const Config& config, const Settings& settings);

/// kUnsupported for a limit whose controller an ordinary user was not given, with what the administrator can do.
Result<void> check_user_limits(const Config& config, const Settings& settings);

/// Before an ordinary user's workload or a process in it is started: gets this process to where it may start it. That
/// it can't is an error only for a workload with limits; others then have no group.
Result<void> enter_user_group(const Config& config, const Settings& settings);

/// How an administrator delegates control groups on this host.
std::string delegation_advice();

}  // namespace hull::engine
