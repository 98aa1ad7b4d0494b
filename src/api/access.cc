#include "api/access.h"

#include "base/error_format.h"

namespace hull::api {
namespace {

Error denied(const Principal& who, std::string_view option) {
  return errorf(ErrorKind::kPermission, "{} has the role {}, which may not use {}: it gives power over the host",
                who.name, to_string(who.role), option);
}

bool reaches_host(std::string_view mode) { return mode == "host"; }

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::kViewer:
      return "viewer";
    case Role::kOperator:
      return "operator";
    case Role::kAdmin:
      return "admin";
  }
  return "unknown";
}

bool Principal::may(Right right) const {
  switch (right) {
    case Right::kNone:
    case Right::kView:
      return true;
    case Right::kOperate:
      return role == Role::kOperator || role == Role::kAdmin;
    case Right::kAdmin:
      return role == Role::kAdmin;
  }
  return false;
}

bool Principal::sees(const Labels& labels) const {
  for (const auto& [key, value] : scope) {
    const auto found = labels.find(key);
    if (found == labels.end() || (!value.empty() && found->second != value)) return false;
  }
  return true;
}

Result<void> check_create(const Principal& who, const engine::Config& config) {
  if (!who.sees(config.labels)) {
    std::string wanted;
    for (const auto& [name, value] : who.scope) wanted += (wanted.empty() ? "" : ", ") + name + "=" + value;
    return errorf(ErrorKind::kPermission, "{} may only make what carries the labels {}", who.name, wanted);
  }
  if (who.role == Role::kAdmin) return {};
  if (config.privileged) return denied(who, "--privileged");
  for (const engine::MountRequest& mount : config.mounts) {
    if (mount.type == engine::MountRequest::Type::kBind) return denied(who, "bind mounts");
    if (!mount.volume_options.empty()) return denied(who, "volume options");
  }
  if (!config.devices.empty() || !config.device_cgroup_rules.empty()) return denied(who, "--device");
  if (!config.cap_add.empty()) return denied(who, "--cap-add");
  for (const std::string& option : config.security_opt) {
    if (option != "no-new-privileges" && option != "no-new-privileges:true" && option != "no-new-privileges=true") {
      return denied(who, "--security-opt " + option);
    }
  }
  if (reaches_host(config.network)) return denied(who, "--network host");
  if (reaches_host(config.pid_mode)) return denied(who, "--pid host");
  if (reaches_host(config.ipc_mode)) return denied(who, "--ipc host");
  if (reaches_host(config.uts_mode)) return denied(who, "--uts host");
  if (reaches_host(config.userns_mode)) return denied(who, "--userns host");
  if (reaches_host(config.cgroupns_mode)) return denied(who, "--cgroupns host");
  if (!config.cgroup_parent.empty()) return denied(who, "--cgroup-parent");
  if (!config.sysctls.empty()) return denied(who, "--sysctl");
  if (config.oom_kill_disable || config.oom_score_adj) return denied(who, "--oom-score-adj");
  if (!config.runtime.empty() && config.runtime != "hull-vm" && config.runtime != "hull" && config.runtime != "runc") {
    return denied(who, "--runtime " + config.runtime);
  }
  if (who.scoped()) {
    // What they name may be somebody else's.
    if (!config.volumes_from.empty()) return denied(who, "--volumes-from");
    for (const std::string* mode : {&config.network, &config.pid_mode, &config.ipc_mode}) {
      if (mode->starts_with("container:")) return denied(who, "the namespace of another container");
    }
  }
  return {};
}

}  // namespace hull::api
