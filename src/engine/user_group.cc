#include "engine/user_group.h"

#include <algorithm>
#include <initializer_list>

#include "base/error_format.h"
#include "base/log.h"
#include "engine/spec.h"
#include "rootless/rootless.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

struct Limit {
  bool asked;
  const char* what;
  std::initializer_list<const char*> controllers;  // one of them
};

bool asks_time(const oci::CpuResources& cpu) {
  return cpu.shares || cpu.quota || cpu.period || cpu.realtime_period || cpu.realtime_runtime;
}

bool has_limits(const Config& config) {
  const auto wanted = make_resources(config, false);
  return wanted.ok() && (wanted->memory || wanted->cpu || wanted->pids_limit || wanted->block_io);
}

}  // namespace

UserGroup find_user_group(const Config& config, const Settings& settings) {
  UserGroup out;
  const std::string& wanted = config.cgroup_parent.empty() ? settings.cgroup_parent : config.cgroup_parent;
  const auto host = isolation::CgroupHost::detect();
  if (!host.ok()) return out;
  out.delegation = isolation::find_delegation(*host, wanted);
  if (out.delegation.named) {
    out.parent = out.delegation.group;
  } else if (!out.delegation.group.empty()) {
    out.parent = fmt::format("{}/{}", out.delegation.group, wanted.empty() ? "hull" : sys::clean_path(wanted));
  }
  return out;
}

std::string cgroup_parent_of(const Config& config, const Settings& settings) {
  if (rootless::inside()) return find_user_group(config, settings).parent;
  const std::string& parent = config.cgroup_parent.empty() ? settings.cgroup_parent : config.cgroup_parent;
  return parent.empty() ? "hull" : sys::clean_path(parent);
}

Result<void> check_user_limits(const Config& config, const Settings& settings) {
  if (!rootless::inside() || config.isolation == Isolation::kVm) return {};
  TRY_ASSIGN(const oci::Resources wanted, make_resources(config, false));
  const bool set = wanted.cpu && (!wanted.cpu->cpus.empty() || !wanted.cpu->mems.empty());
  if (!has_limits(config) && config.cgroup_parent.empty()) return {};
  const Limit limits[] = {
      {wanted.memory.has_value(), "memory", {"memory"}},
      {wanted.cpu && asks_time(*wanted.cpu), "processor time", {"cpu"}},
      {set, "processors and memory nodes", {"cpuset"}},
      {wanted.pids_limit.has_value(), "processes", {"pids"}},
      {wanted.block_io.has_value(), "disks", {"io", "blkio"}},
  };
  const UserGroup group = find_user_group(config, settings);
  if (!config.cgroup_parent.empty() && group.parent.empty()) {
    return errorf(ErrorKind::kUnsupported, "--cgroup-parent needs a control group of this user's own: {}",
                  delegation_advice());
  }
  for (const Limit& limit : limits) {
    const bool there = std::any_of(limit.controllers.begin(), limit.controllers.end(),
                                   [&](const char* name) { return group.delegation.has(name); });
    if (!limit.asked || there) continue;
    return errorf(ErrorKind::kUnsupported,
                  "limits of {} need a control group with the controller {}, and this user was given none: leave them "
                  "out, or {}",
                  limit.what, *limit.controllers.begin(), delegation_advice());
  }
  return {};
}

Result<void> enter_user_group(const Config& config, const Settings& settings) {
  if (!rootless::inside() || config.isolation == Isolation::kVm) return {};
  const UserGroup group = find_user_group(config, settings);
  if (group.parent.empty() || group.delegation.named) return {};
  TRY_ASSIGN(const auto host, isolation::CgroupHost::detect());
  auto entered = isolation::enter_delegation(host, group.delegation, settings.run_root + "/control-group.lock");
  if (entered.ok() || has_limits(config)) return entered;
  log_debug("no control group: {}", entered.error().message());
  return {};
}

std::string delegation_advice() {
  const auto host = isolation::CgroupHost::detect();
  const bool unified = host.ok() && host->layout() == isolation::CgroupLayout::kUnified;
  if (unified && sys::exists("/run/systemd/system")) {
    return "let the administrator write \"[Service]\" and \"Delegate=cpu cpuset io memory pids\" to "
           "/etc/systemd/system/user@.service.d/delegate.conf, run `systemctl daemon-reload`, and log in again";
  }
  if (unified) {
    return "let the administrator make a control group for this user (mkdir, then chown -R, below /sys/fs/cgroup) and "
           "start the user's shell in a group below it";
  }
  return "let the administrator make control groups of one name for this user (mkdir, then chown -R, below "
         "/sys/fs/cgroup/memory, cpu, pids, freezer ...) and name them as cgroup_parent in hull.toml";
}

}  // namespace hull::engine
