#include "engine/spec.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/error_format.h"
#include "engine/image_view.h"
#include "engine/merge.h"
#include "isolation/capabilities.h"
#include "isolation/defaults.h"
#include "isolation/seccomp.h"
#include "rootless/rootless.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

oci::Mount mount_of(std::string destination, std::string type, std::string source, std::vector<std::string> options) {
  oci::Mount mount;
  mount.destination = std::move(destination);
  mount.type = std::move(type);
  mount.source = std::move(source);
  mount.options = std::move(options);
  return mount;
}

Result<void> add_default_mounts(const SpecInput& in, bool writable_cgroups, oci::Spec* spec) {
  const Config& c = *in.config;
  if (!in.vm) {
    // The root first: the runtime mounts it detached, in the container's own mount namespace (see ARCHITECTURE.md).
    TRY_ASSIGN(const std::string lower, join_lower_dirs(in.lower_dirs));
    spec->mounts.push_back(mount_of("/", "overlay", "overlay",
                                    {"lowerdir=" + lower, "upperdir=" + in.upper_dir, "workdir=" + in.work_dir}));
  }
  const auto add = [&](std::string destination, std::string type, std::string source,
                       std::vector<std::string> options) {
    const std::string clean = sys::clean_path(destination);
    const auto same = [&](const SpecInput::ResolvedMount& m) { return sys::clean_path(m.request->target) == clean; };
    // What the user mounts there takes its place.
    if (std::any_of(in.mounts.begin(), in.mounts.end(), same)) return;
    spec->mounts.push_back(mount_of(std::move(destination), std::move(type), std::move(source), std::move(options)));
  };
  add("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"});
  add("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"});
  add("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
  add("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", c.privileged ? "rw" : "ro"});
  add("/sys/fs/cgroup", "cgroup", "cgroup",
      {c.privileged || writable_cgroups ? "rw" : "ro", "nosuid", "noexec", "nodev"});
  if (in.ipc_namespace == "host" && ::access("/dev/mqueue", F_OK) == 0) {
    add("/dev/mqueue", "bind", "/dev/mqueue", {"bind", "nosuid", "noexec", "nodev"});
  } else {
    add("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"});
  }
  if (!in.shm_source.empty()) {
    add("/dev/shm", "bind", in.shm_source, {"rbind", "rprivate", "nosuid", "noexec", "nodev"});
  } else if (c.ipc_mode != "none") {
    add("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", fmt::format("size={}", c.shm_size)});
  }
  const auto add_file = [&](const char* target, const std::string& source) {
    if (!source.empty()) {
      add(target, "bind", source, {"rbind", "rprivate", c.read_only_rootfs ? "ro" : "rw"});
    }
  };
  add_file("/etc/resolv.conf", in.resolv_conf_file);
  add_file("/etc/hostname", in.hostname_file);
  add_file("/etc/hosts", in.hosts_file);
  return {};
}

Result<void> add_user_mounts(const SpecInput& in, oci::Spec* spec) {
  std::vector<oci::Mount> mounts;
  for (const SpecInput::ResolvedMount& mount : in.mounts) {
    TRY_ASSIGN(oci::Mount made, make_mount(mount));
    mounts.push_back(std::move(made));
  }
  // A mount must come after the one that holds its mount point.
  const auto depth = [](const oci::Mount& m) {
    const std::string clean = sys::clean_path(m.destination);
    return std::count(clean.begin(), clean.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(),
                   [&](const oci::Mount& a, const oci::Mount& b) { return depth(a) < depth(b); });
  for (oci::Mount& mount : mounts) spec->mounts.push_back(std::move(mount));
  if (in.config->init) {
    spec->mounts.push_back(mount_of("/sbin/docker-init", "bind", in.init_program, {"bind", "ro"}));
  }
  return {};
}

void add_namespaces(const SpecInput& in, oci::Linux* linux_config) {
  const auto add = [&](oci::NamespaceType type, const std::string& path) {
    if (path == "host") return;
    linux_config->namespaces.push_back({type, path});
  };
  add(oci::NamespaceType::kMount, "");
  add(oci::NamespaceType::kNetwork, in.network_namespace);
  add(oci::NamespaceType::kUts, in.uts_namespace);
  add(oci::NamespaceType::kPid, in.pid_namespace);
  add(oci::NamespaceType::kIpc, in.ipc_namespace);
  add(oci::NamespaceType::kCgroup, in.cgroup_namespace);
}

/// The kernel takes a group only when it is mapped: an ordinary user has some ten thousand.
uint32_t last_group() {
  constexpr uint32_t kEvery = 2147483647;
  if (!rootless::inside()) return kEvery;
  const std::string map = sys::read_file("/proc/self/gid_map", 64 << 10).value_or("");
  uint64_t next = 0;
  unsigned long inside = 0, outside = 0, count = 0;
  int used = 0;
  for (const char* at = map.c_str(); std::sscanf(at, "%lu %lu %lu%n", &inside, &outside, &count, &used) == 3;
       at += used) {
    if (inside == next) next = inside + count;
  }
  return next == 0 ? 0 : static_cast<uint32_t>(std::min<uint64_t>(next - 1, kEvery));
}

std::string cgroups_path(const SpecInput& in) {
  if (rootless::inside()) return in.cgroup_parent.empty() ? "" : fmt::format("/{}/{}", in.cgroup_parent, in.id);
  std::string parent = in.config->cgroup_parent.empty() ? in.cgroup_parent : in.config->cgroup_parent;
  if (in.systemd_cgroup) {
    if (parent.empty()) parent = "system.slice";
    return fmt::format("{}:hull:{}", parent, in.id);
  }
  if (parent.empty()) parent = "hull";
  return fmt::format("/{}/{}", sys::clean_path(parent), in.id);
}

}  // namespace

Result<oci::Spec> build_spec(const SpecInput& in) {
  const Config& c = *in.config;
  oci::Spec spec;
  spec.version = "1.2.0";
  spec.root = oci::Root{in.rootfs, c.read_only_rootfs};
  spec.annotations = c.annotations;
  if (in.uts_namespace.empty()) {
    spec.hostname = in.hostname;
    spec.domainname = c.domainname;
  }
  TRY_ASSIGN(const SecurityOptions security, parse_security_options(c.security_opt));
  TRY_ASSIGN(const std::vector<std::string> capabilities, effective_capabilities(c));

  oci::Process& process = spec.process.emplace();
  process.terminal = c.tty;
  process.console_size = in.console_size;
  process.user.uid = in.user.uid;
  process.user.gid = in.user.gid;
  process.user.additional_gids = in.user.additional_gids;
  process.user.username = in.user_text;
  process.args = full_command(c);
  if (c.init) process.args.insert(process.args.begin(), {"/sbin/docker-init", "--"});
  process.env = process_environment(c, in.hostname, in.vm ? std::string() : in.user.home);
  process.cwd = c.working_dir;
  // Docker's rule: the inheritable set stays empty (CVE-2022-24769); who is not root starts without permitted ones
  // because execve takes them away.
  process.capabilities = oci::Capabilities{capabilities, capabilities, {}, capabilities, {}};
  TRY_ASSIGN(process.rlimits, make_rlimits(c.ulimits));
  process.no_new_privileges = security.no_new_privileges;
  process.apparmor_profile = security.apparmor;
  process.selinux_label = security.selinux_process_label;
  process.oom_score_adj = c.oom_score_adj;

  oci::Linux& linux_config = spec.linux_config.emplace();
  add_namespaces(in, &linux_config);
  linux_config.cgroups_path = cgroups_path(in);
  linux_config.sysctl = c.sysctls;
  if (in.network_namespace.empty()) {
    // In a network of its own nothing is gained by keeping low ports and ping for root (Docker, since 20.10).
    linux_config.sysctl.emplace("net.ipv4.ip_unprivileged_port_start", "0");
    linux_config.sysctl.emplace("net.ipv4.ping_group_range", fmt::format("0 {}", last_group()));
  }
  TRY_ASSIGN(linux_config.resources, make_resources(c, in.swap_accounting));
  TRY(in.vm ? add_guest_devices(c, &linux_config) : add_devices(c, &linux_config));
  if (rootless::inside()) {
    // Devices are guarded by their owners and modes.
    linux_config.resources->devices.clear();
    // Without a control group of the user's there are no limits; create() has said so.
    if (linux_config.cgroups_path.empty()) linux_config.resources.reset();
  }
  if (!c.privileged && !security.systempaths_unconfined) {
    linux_config.masked_paths.assign(isolation::kDefaultMaskedPaths.begin(), isolation::kDefaultMaskedPaths.end());
    linux_config.readonly_paths.assign(isolation::kDefaultReadonlyPaths.begin(),
                                       isolation::kDefaultReadonlyPaths.end());
  }
  if (!c.privileged && !security.seccomp_unconfined) {
    uint64_t mask = 0;
    for (const std::string& name : capabilities) mask |= 1ULL << isolation::capability_number(name).value_or(0);
    if (security.seccomp_profile.empty()) {
      linux_config.seccomp = isolation::default_seccomp(mask);
    } else {
      TRY_ASSIGN(linux_config.seccomp, parse_seccomp_profile(security.seccomp_profile, mask));
    }
  }
  const auto shared = [](const SpecInput::ResolvedMount& m) { return m.request->propagation.ends_with("shared"); };
  const auto slave = [](const SpecInput::ResolvedMount& m) { return m.request->propagation.ends_with("slave"); };
  if (std::any_of(in.mounts.begin(), in.mounts.end(), shared)) {
    linux_config.rootfs_propagation = "shared";
  } else if (std::any_of(in.mounts.begin(), in.mounts.end(), slave)) {
    linux_config.rootfs_propagation = "slave";
  }
  TRY(add_default_mounts(in, security.writable_cgroups, &spec));
  TRY(add_user_mounts(in, &spec));
  return spec;
}

}  // namespace hull::engine
