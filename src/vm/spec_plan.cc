#include "vm/spec_plan.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "base/log.h"
#include "guest/agent_client.h"
#include "isolation/namespaces.h"

namespace hull::vm {
namespace {

/// File systems that a kernel makes out of nothing: they mean the same in the guest's.
constexpr std::array<std::string_view, 14> kGuestFileSystems = {
    "proc",    "sysfs",      "tmpfs",   "ramfs", "devpts",      "mqueue",    "cgroup",
    "cgroup2", "securityfs", "debugfs", "bpf",   "binfmt_misc", "hugetlbfs", "tracefs"};

bool has(const std::vector<std::string>& options, std::string_view wanted) {
  return std::find(options.begin(), options.end(), wanted) != options.end();
}

bool is_bind(const oci::Mount& mount) {
  return mount.type == "bind" || has(mount.options, "bind") || has(mount.options, "rbind");
}

std::string mount_member(size_t index, const oci::Mount& mount) {
  return fmt::format("mounts[{}] ({})", index, mount.destination);
}

/// Character devices whose numbers name a function of every kernel and no hardware: mem (null, zero, random...), tty,
/// console and ptmx, fuse, tun.
bool is_kernels_own(const oci::Device& device) {
  if (device.type == "p") return true;
  if (device.type != "c" && device.type != "u") return false;
  if (device.major == 1 || device.major == 5) return true;
  constexpr int64_t kMisc = 10;
  constexpr int64_t kTun = 200;
  constexpr int64_t kFuse = 229;
  return device.major == kMisc && (device.minor == kTun || device.minor == kFuse);
}

Result<void> check_namespaces(const oci::Linux& config, std::string* network) {
  using Type = oci::NamespaceType;
  std::array<bool, 8> present{};
  for (const oci::Namespace& entry : config.namespaces) {
    present[static_cast<size_t>(entry.type)] = true;
    if (entry.path.empty()) continue;
    if (entry.type != Type::kNetwork) {
      return errorf(ErrorKind::kUnsupported,
                    "linux.namespaces: a virtual machine can't join the {} namespace {} of the host or of a container",
                    oci::to_string(entry.type), entry.path);
    }
    *network = entry.path;
  }
  const auto need = [&](Type type, std::string_view what) -> Result<void> {
    if (present[static_cast<size_t>(type)]) return {};
    return errorf(ErrorKind::kUnsupported,
                  "linux.namespaces names no {} namespace: a virtual machine can't use the host's {}",
                  oci::to_string(type), what);
  };
  TRY(need(Type::kNetwork, "network"));
  TRY(need(Type::kPid, "processes"));
  TRY(need(Type::kIpc, "shared memory and queues"));
  TRY(need(Type::kUts, "hostname"));
  return need(Type::kMount, "mounts");
}

Result<void> check_linux(const oci::Linux& config) {
  for (size_t i = 0; i < config.devices.size(); ++i) {
    const oci::Device& device = config.devices[i];
    if (is_kernels_own(device)) continue;
    return errorf(ErrorKind::kUnsupported,
                  "linux.devices[{}]: {} ({} {}:{}) is a device of the host, which a virtual machine does not see", i,
                  device.path, device.type, device.major, device.minor);
  }
  if (!config.net_devices.empty()) {
    return errorf(ErrorKind::kUnsupported,
                  "linux.netDevices: network devices of the host can't be moved into a virtual machine");
  }
  if (config.seccomp && !config.seccomp->listener_path.empty()) {
    return errorf(ErrorKind::kUnsupported,
                  "linux.seccomp.listenerPath: a seccomp listener of the guest's kernel can't be handed to the host");
  }
  if (config.intel_rdt) {
    return errorf(ErrorKind::kUnsupported, "linux.intelRdt: not possible for a virtual machine");
  }
  if (config.memory_policy) {
    return errorf(ErrorKind::kUnsupported, "linux.memoryPolicy: a virtual machine does not see the host's nodes");
  }
  return {};
}

/// Limits that hold for the whole machine are the host's; what counts the workload's own things is the guest's.
oci::Resources take_host_resources(oci::Resources& guest) {
  oci::Resources host;
  host.cpu = std::exchange(guest.cpu, {});
  host.block_io = std::exchange(guest.block_io, {});
  host.network = std::exchange(guest.network, {});
  host.rdma = std::exchange(guest.rdma, {});
  return host;
}

/// Docker and Podman bind a tmpfs of their own for /dev/shm; in a machine it has to be the guest's memory.
bool becomes_tmpfs(const oci::Mount& mount, oci::Mount* out) {
  struct statfs file_system{};
  if (mount.destination != "/dev/shm" || ::statfs(mount.source.c_str(), &file_system) != 0) return false;
  if (file_system.f_type != TMPFS_MAGIC) return false;
  const uint64_t bytes = static_cast<uint64_t>(file_system.f_blocks) * static_cast<uint64_t>(file_system.f_bsize);
  *out = {mount.destination,
          "tmpfs",
          "shm",
          {"nosuid", "nodev", "noexec", "mode=1777", fmt::format("size={}", bytes)},
          {},
          {}};
  return true;
}

Result<void> check_source(const std::string& member, const std::string& source) {
  struct stat info{};
  if (::stat(source.c_str(), &info) != 0) return errnof("{}: source {}", member, source);
  if (S_ISDIR(info.st_mode) || S_ISREG(info.st_mode)) return {};
  const char* kind = S_ISSOCK(info.st_mode) ? "a socket" : S_ISFIFO(info.st_mode) ? "a pipe" : "a device";
  return errorf(ErrorKind::kUnsupported,
                "{}: {} is {} of the host's kernel; a virtual machine can share files and folders only", member, source,
                kind);
}

Result<void> plan_mount(size_t index, const std::string& bundle, bool layered, oci::Mount& mount, SpecPlan& plan,
                        bool* drop) {
  const std::string member = mount_member(index, mount);
  if (!is_bind(mount)) {
    // The engine's way of asking for the image's overlay, which the guest makes itself.
    if (layered && mount.destination == "/" && mount.type == "overlay") {
      *drop = true;
      return {};
    }
    const auto* known = std::find(kGuestFileSystems.begin(), kGuestFileSystems.end(), mount.type);
    if (known != kGuestFileSystems.end()) return {};
    return errorf(ErrorKind::kUnsupported,
                  "{}: a file system of type \"{}\" can't be mounted in a virtual machine: mount it on the host and "
                  "bind it",
                  member, mount.type);
  }
  if (!mount.uid_mappings.empty() || !mount.gid_mappings.empty() || has(mount.options, "idmap") ||
      has(mount.options, "ridmap")) {
    return errorf(ErrorKind::kUnsupported, "{}: id-mapped mounts are not possible in a virtual machine", member);
  }
  if (!mount.source.starts_with('/')) mount.source = bundle + "/" + mount.source;
  oci::Mount replaced;
  if (becomes_tmpfs(mount, &replaced)) {
    mount = std::move(replaced);
    return {};
  }
  TRY(check_source(member, mount.source));
  const bool read_only = has(mount.options, "ro") || has(mount.options, "rro");
  const bool recursive = has(mount.options, "rbind") || !has(mount.options, "bind");
  plan.shares.push_back({mount.source, member, read_only, recursive});
  mount.source = fmt::format("{}/{}", guest::kSharePath, plan.shares.size() - 1);
  mount.type = "bind";
  return {};
}

/// Labels and profiles belong to the host's security modules; the guest's kernel has its own and none loaded.
void drop_labels(oci::Spec& spec) {
  if (spec.process) {
    if (!spec.process->apparmor_profile.empty() || !spec.process->selinux_label.empty()) {
      log_debug("process.apparmorProfile and selinuxLabel are the host's: they do not apply inside a virtual machine");
    }
    spec.process->apparmor_profile.clear();
    spec.process->selinux_label.clear();
  }
  if (spec.linux_config) spec.linux_config->mount_label.clear();
}

Result<void> check_hooks(const oci::Spec& spec) {
  if (!spec.hooks || spec.hooks->create_container.empty()) return {};
  return errorf(ErrorKind::kUnsupported,
                "hooks.createContainer: runs in the container's namespaces on the host, where a virtual machine has no "
                "mount namespace with the root in it");
}

}  // namespace

Result<oci::Spec> parse_machine_spec(std::string_view json, std::map<std::string, std::string>* sysctl) {
  auto parsed = oci::parse_spec(json);
  if (!parsed.ok()) return std::move(parsed).error().context("config.json");
  oci::Spec& spec = *parsed;
  if (spec.linux_config) {
    std::map<std::string, std::string>& all = spec.linux_config->sysctl;
    for (auto it = all.begin(); it != all.end();) {
      const auto needed = oci::sysctl_namespace(it->first);
      const bool inner = it->first == "kernel.hostname" || it->first == "kernel/hostname" ||
                         (needed.ok() && *needed != oci::NamespaceType::kNetwork);
      if (inner) {
        ++it;
        continue;
      }
      TRY_ASSIGN([[maybe_unused]] const std::string path, isolation::sysctl_path(it->first));
      sysctl->insert(*it);
      it = all.erase(it);
    }
  }
  auto valid = oci::validate(spec);
  if (!valid.ok()) return std::move(valid).error().context("config.json");
  return parsed;
}

Result<SpecPlan> plan_spec(oci::Spec spec, const std::string& bundle, const std::string& rootfs) {
  SpecPlan plan;
  if (!spec.linux_config) spec.linux_config.emplace();
  oci::Linux& config = *spec.linux_config;
  TRY(check_namespaces(config, &plan.network_namespace));
  TRY(check_linux(config));
  TRY(check_hooks(spec));
  const bool layered = rootfs.empty();
  if (!spec.root) spec.root.emplace();
  if (layered) {
    spec.root->path = guest::kRootPath;
  } else {
    plan.shares.push_back({rootfs, "root", false, true});
    spec.root->path = fmt::format("{}/0", guest::kSharePath);
  }
  std::vector<oci::Mount> mounts;
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    bool drop = false;
    TRY(plan_mount(i, bundle, layered, spec.mounts[i], plan, &drop));
    if (!drop) mounts.push_back(std::move(spec.mounts[i]));
  }
  spec.mounts = std::move(mounts);
  std::erase_if(config.namespaces,
                [](const oci::Namespace& entry) { return entry.type == oci::NamespaceType::kNetwork; });
  if (config.resources) plan.host = take_host_resources(*config.resources);
  config.cgroups_path = "/hull/workload";
  drop_labels(spec);
  spec.vm.reset();
  if (spec.hooks) {
    // The host's own were run there; these are programs of the container's root.
    const std::vector<oci::Hook> inside = std::move(spec.hooks->start_container);
    spec.hooks.reset();
    if (!inside.empty()) spec.hooks.emplace().start_container = inside;
  }
  plan.guest = std::move(spec);
  return plan;
}

}  // namespace hull::vm
