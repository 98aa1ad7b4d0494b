// What config.json's schema can't say. Each check names the member and what to do about it.

#include <algorithm>
#include <array>
#include <set>

#include "base/error_format.h"
#include "oci/runtime_spec.h"

namespace hull::oci {

namespace {

template <size_t N>
bool is_one_of(std::string_view text, const std::array<std::string_view, N>& choices) {
  return std::find(choices.begin(), choices.end(), text) != choices.end();
}

const Namespace* find_namespace(const Linux& config, NamespaceType type) {
  for (const Namespace& space : config.namespaces) {
    if (space.type == type) return &space;
  }
  return nullptr;
}

Result<void> require_namespace(const Linux* config, NamespaceType type, std::string_view member) {
  if (config != nullptr && find_namespace(*config, type) != nullptr) return {};
  return errorf(ErrorKind::kInvalid,
                "{}: needs a {} namespace of the container's own; add {{\"type\":\"{}\"}} to linux.namespaces or leave "
                "the member out",
                member, to_string(type), to_string(type));
}

Result<void> require_absolute(std::string_view path, std::string_view member) {
  if (path.empty()) return errorf(ErrorKind::kInvalid, "{}: is empty; an absolute path is needed", member);
  if (path.front() != '/') return errorf(ErrorKind::kInvalid, "{}: \"{}\" is not an absolute path", member, path);
  return {};
}

Result<void> check_mappings(const std::vector<IdMapping>& mappings, std::string_view member) {
  // The kernel's own limit (UID_GID_MAP_MAX_EXTENTS, Linux 4.15).
  constexpr size_t kMaxExtents = 340;
  if (mappings.size() > kMaxExtents) {
    return errorf(ErrorKind::kInvalid, "{}: {} entries; the kernel takes at most {}", member, mappings.size(),
                  kMaxExtents);
  }
  for (size_t i = 0; i < mappings.size(); ++i) {
    const IdMapping& a = mappings[i];
    if (a.size == 0) return errorf(ErrorKind::kInvalid, "{}[{}].size: is 0", member, i);
    constexpr uint64_t kIdEnd = 0xffffffffULL;
    if (uint64_t{a.container_id} + a.size > kIdEnd || uint64_t{a.host_id} + a.size > kIdEnd) {
      return errorf(ErrorKind::kInvalid, "{}[{}]: the range goes past the highest id 4294967294", member, i);
    }
    for (size_t j = 0; j < i; ++j) {
      const IdMapping& b = mappings[j];
      const auto overlap = [&](uint64_t x, uint64_t y) { return x < y + b.size && y < x + a.size; };
      if (overlap(a.container_id, b.container_id) || overlap(a.host_id, b.host_id)) {
        return errorf(ErrorKind::kInvalid, "{}: entries {} and {} overlap", member, j, i);
      }
    }
  }
  return {};
}

Result<void> check_process(const Process& process) {
  TRY(require_absolute(process.cwd, "process.cwd"));
  if (process.args.empty()) {
    return Error(ErrorKind::kInvalid, "process.args: is empty; it must name the program to run");
  }
  for (size_t i = 0; i < process.env.size(); ++i) {
    const size_t equals = process.env[i].find('=');
    if (equals == 0) return errorf(ErrorKind::kInvalid, "process.env[{}]: has no name before '='", i);
  }
  std::set<std::string_view> types;
  for (size_t i = 0; i < process.rlimits.size(); ++i) {
    const Rlimit& limit = process.rlimits[i];
    if (!types.insert(limit.type).second) {
      return errorf(ErrorKind::kInvalid, "process.rlimits[{}]: {} is there twice", i, limit.type);
    }
    if (limit.soft > limit.hard) {
      return errorf(ErrorKind::kInvalid, "process.rlimits[{}]: {}: soft limit {} is above hard limit {}", i, limit.type,
                    limit.soft, limit.hard);
    }
  }
  if (process.oom_score_adj && (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000)) {
    return errorf(ErrorKind::kInvalid, "process.oomScoreAdj: {} is outside -1000 to 1000", *process.oom_score_adj);
  }
  if (process.user.umask && *process.user.umask > 0777) {
    return errorf(ErrorKind::kInvalid, "process.user.umask: {} is above 511 (octal 0777)", *process.user.umask);
  }
  // (uid_t)-1 means "leave as it is" to the kernel, so it can't be asked for.
  constexpr uint32_t kNoId = 0xffffffffU;
  if (process.user.uid == kNoId) return Error(ErrorKind::kInvalid, "process.user.uid: 4294967295 is not a user id");
  if (process.user.gid == kNoId) return Error(ErrorKind::kInvalid, "process.user.gid: 4294967295 is not a group id");
  for (size_t i = 0; i < process.user.additional_gids.size(); ++i) {
    if (process.user.additional_gids[i] == kNoId) {
      return errorf(ErrorKind::kInvalid, "process.user.additionalGids[{}]: 4294967295 is not a group id", i);
    }
  }
  constexpr size_t kMaxGroups = 65536;  // NGROUPS_MAX
  if (process.user.additional_gids.size() > kMaxGroups) {
    return errorf(ErrorKind::kInvalid, "process.user.additionalGids: {} groups; the kernel takes at most {}",
                  process.user.additional_gids.size(), kMaxGroups);
  }
  if (process.console_size && (process.console_size->height > 0xffff || process.console_size->width > 0xffff)) {
    return Error(ErrorKind::kInvalid, "process.consoleSize: height and width are at most 65535");
  }
  if (process.io_priority && (process.io_priority->priority < 0 || process.io_priority->priority > 7)) {
    return errorf(ErrorKind::kInvalid, "process.ioPriority.priority: {} is outside 0 to 7",
                  process.io_priority->priority);
  }
  if (process.scheduler && (process.scheduler->nice < -20 || process.scheduler->nice > 19)) {
    return errorf(ErrorKind::kInvalid, "process.scheduler.nice: {} is outside -20 to 19", process.scheduler->nice);
  }
  return {};
}

Result<void> check_mounts(const Spec& spec) {
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const Mount& mount = spec.mounts[i];
    // A relative destination is allowed and means one from "/" (config.md, "Mounts", Linux).
    if (mount.destination.empty()) return errorf(ErrorKind::kInvalid, "mounts[{}].destination: is empty", i);
    if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
      return errorf(ErrorKind::kInvalid, "mounts[{}] ({}): uidMappings and gidMappings must be given together", i,
                    mount.destination);
    }
    TRY(check_mappings(mount.uid_mappings, fmt::format("mounts[{}].uidMappings", i)));
    TRY(check_mappings(mount.gid_mappings, fmt::format("mounts[{}].gidMappings", i)));
  }
  return {};
}

Result<void> check_hooks(const Hooks& hooks) {
  const std::pair<std::string_view, const std::vector<Hook>*> lists[] = {
      {"prestart", &hooks.prestart},
      {"createRuntime", &hooks.create_runtime},
      {"createContainer", &hooks.create_container},
      {"startContainer", &hooks.start_container},
      {"poststart", &hooks.poststart},
      {"poststop", &hooks.poststop},
  };
  for (const auto& [name, list] : lists) {
    for (size_t i = 0; i < list->size(); ++i) {
      const Hook& hook = (*list)[i];
      TRY(require_absolute(hook.path, fmt::format("hooks.{}[{}].path", name, i)));
      if (hook.timeout_s && *hook.timeout_s <= 0) {
        return errorf(ErrorKind::kInvalid, "hooks.{}[{}].timeout: {} is not above 0", name, i, *hook.timeout_s);
      }
    }
  }
  return {};
}

Result<void> check_namespaces(const Linux& config) {
  std::set<NamespaceType> seen;
  for (size_t i = 0; i < config.namespaces.size(); ++i) {
    const Namespace& space = config.namespaces[i];
    if (!seen.insert(space.type).second) {
      return errorf(ErrorKind::kInvalid, "linux.namespaces[{}]: {} is there twice", i, to_string(space.type));
    }
    if (!space.path.empty()) TRY(require_absolute(space.path, fmt::format("linux.namespaces[{}].path", i)));
  }
  TRY(check_mappings(config.uid_mappings, "linux.uidMappings"));
  TRY(check_mappings(config.gid_mappings, "linux.gidMappings"));
  const Namespace* user = find_namespace(config, NamespaceType::kUser);
  const bool mapped = !config.uid_mappings.empty() || !config.gid_mappings.empty();
  if (user == nullptr && mapped) {
    return Error(ErrorKind::kInvalid,
                 "linux.uidMappings, linux.gidMappings: need a user namespace; add {\"type\":\"user\"} to "
                 "linux.namespaces or leave the mappings out");
  }
  if (user != nullptr && user->path.empty() && (config.uid_mappings.empty() || config.gid_mappings.empty())) {
    return Error(ErrorKind::kInvalid,
                 "linux.namespaces: a new user namespace needs linux.uidMappings and linux.gidMappings");
  }
  if (!config.time_offsets.empty()) {
    const Namespace* time = find_namespace(config, NamespaceType::kTime);
    if (time == nullptr || !time->path.empty()) {
      return Error(ErrorKind::kInvalid, "linux.timeOffsets: need a new time namespace in linux.namespaces");
    }
    for (const auto& [clock, offset] : config.time_offsets) {
      if (clock != "monotonic" && clock != "boottime") {
        return errorf(ErrorKind::kInvalid, "linux.timeOffsets: \"{}\" is no clock; there are monotonic and boottime",
                      clock);
      }
      if (offset.nanosecs >= 1'000'000'000U) {
        return errorf(ErrorKind::kInvalid, "linux.timeOffsets.{}.nanosecs: {} is a second or more", clock,
                      offset.nanosecs);
      }
    }
  }
  return {};
}

Result<void> check_sysctl(const Linux& config) {
  for (const auto& [name, value] : config.sysctl) {
    const std::string member = fmt::format("linux.sysctl.{}", name);
    TRY_ASSIGN(const NamespaceType needed, sysctl_namespace(name));
    TRY(require_namespace(&config, needed, member));
    if (value.size() > 4096) return errorf(ErrorKind::kInvalid, "{}: the value is longer than 4096 bytes", member);
  }
  return {};
}

Result<void> check_devices(const Linux& config) {
  for (size_t i = 0; i < config.devices.size(); ++i) {
    const Device& device = config.devices[i];
    TRY(require_absolute(device.path, fmt::format("linux.devices[{}].path", i)));
    if (!is_one_of(device.type, std::array<std::string_view, 4>{"c", "b", "u", "p"})) {
      return errorf(ErrorKind::kInvalid, "linux.devices[{}].type: \"{}\" is not one of c, b, u, p", i, device.type);
    }
    if (device.type != "p" &&
        (device.major < 0 || device.major > 0xfff || device.minor < 0 || device.minor > 0xfffff)) {
      return errorf(ErrorKind::kInvalid, "linux.devices[{}]: {}:{} is no device number (0:0 to 4095:1048575)", i,
                    device.major, device.minor);
    }
    if (device.file_mode && (*device.file_mode & ~0170000U) > 07777) {
      return errorf(ErrorKind::kInvalid, "linux.devices[{}].fileMode: {} is no file mode", i, *device.file_mode);
    }
  }
  if (!config.resources) return {};
  for (size_t i = 0; i < config.resources->devices.size(); ++i) {
    const DeviceCgroup& rule = config.resources->devices[i];
    const std::string member = fmt::format("linux.resources.devices[{}]", i);
    if (!is_one_of(rule.type, std::array<std::string_view, 4>{"", "a", "b", "c"})) {
      return errorf(ErrorKind::kInvalid, "{}.type: \"{}\" is not one of a, b, c", member, rule.type);
    }
    if (rule.access.find_first_not_of("rwm") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "{}.access: \"{}\" may hold only r, w and m", member, rule.access);
    }
    for (const auto& number : {rule.major, rule.minor}) {
      // -1 is what other engines write for "every".
      if (number && (*number < -1 || *number > 0xffffffffLL)) {
        return errorf(ErrorKind::kInvalid, "{}: {} is no device number", member, *number);
      }
    }
  }
  return {};
}

Result<void> check_net_devices(const Linux& config) {
  if (config.net_devices.empty()) return {};
  TRY(require_namespace(&config, NamespaceType::kNetwork, "linux.netDevices"));
  const auto good = [](std::string_view name) {
    constexpr size_t kMaxName = 15;  // IFNAMSIZ with its final NUL
    return !name.empty() && name.size() <= kMaxName && name != "." && name != ".." &&
           std::none_of(name.begin(), name.end(), [](char c) {
             return c == '/' || c == ':' || c == '%' || static_cast<unsigned char>(c) <= ' ';
           });
  };
  std::set<std::string_view> inside;
  for (const auto& [host, name] : config.net_devices) {
    if (!good(host)) return errorf(ErrorKind::kInvalid, "linux.netDevices: \"{}\" is no interface name", host);
    if (!name.empty() && !good(name)) {
      return errorf(ErrorKind::kInvalid, "linux.netDevices.{}.name: \"{}\" is no interface name", host, name);
    }
    if (!inside.insert(name.empty() ? host : name).second) {
      return errorf(ErrorKind::kInvalid, "linux.netDevices.{}: another device gets the same name", host);
    }
  }
  return {};
}

Result<void> check_linux(const Linux& config) {
  TRY(check_namespaces(config));
  TRY(check_sysctl(config));
  TRY(check_devices(config));
  TRY(check_net_devices(config));
  for (size_t i = 0; i < config.masked_paths.size(); ++i) {
    TRY(require_absolute(config.masked_paths[i], fmt::format("linux.maskedPaths[{}]", i)));
  }
  for (size_t i = 0; i < config.readonly_paths.size(); ++i) {
    TRY(require_absolute(config.readonly_paths[i], fmt::format("linux.readonlyPaths[{}]", i)));
  }
  if (!is_one_of(config.rootfs_propagation,
                 std::array<std::string_view, 9>{"", "shared", "slave", "private", "unbindable", "rshared", "rslave",
                                                 "rprivate", "runbindable"})) {
    return errorf(ErrorKind::kInvalid,
                  "linux.rootfsPropagation: \"{}\" is not one of shared, slave, private, unbindable",
                  config.rootfs_propagation);
  }
  if (config.intel_rdt) {
    const std::string& clos = config.intel_rdt->clos_id;
    // "/" is the default class (the top of the resctrl file system).
    if (clos != "/" && (clos == "." || clos == ".." || clos.find('/') != std::string::npos || clos.size() > 255)) {
      return errorf(ErrorKind::kInvalid, "linux.intelRdt.closID: \"{}\" can't name a folder", clos);
    }
  }
  if (config.personality && config.personality->domain != "LINUX" && config.personality->domain != "LINUX32") {
    return errorf(ErrorKind::kInvalid, "linux.personality.domain: \"{}\" is not one of LINUX, LINUX32",
                  config.personality->domain);
  }
  if (config.seccomp) {
    if (config.seccomp->default_action.empty()) {
      return Error(ErrorKind::kInvalid, "linux.seccomp.defaultAction: is missing");
    }
    if (config.seccomp->listener_path.empty() && !config.seccomp->listener_metadata.empty()) {
      return Error(ErrorKind::kInvalid, "linux.seccomp.listenerMetadata: needs linux.seccomp.listenerPath");
    }
    if (!config.seccomp->listener_path.empty()) {
      TRY(require_absolute(config.seccomp->listener_path, "linux.seccomp.listenerPath"));
    }
  }
  return {};
}

}  // namespace

Result<NamespaceType> sysctl_namespace(std::string_view name) {
  std::string dotted(name);
  // sysctl(8) takes a/b.c and a.b/c: the separator that comes first decides, the other one is part of a component.
  const size_t first = dotted.find_first_of("./");
  if (first != std::string::npos && dotted[first] == '/') {
    for (char& c : dotted) c = c == '/' ? '.' : c == '.' ? '/' : c;
  }
  const bool empty_part = dotted.empty() || dotted.front() == '.' || dotted.back() == '.' ||
                          dotted.find("..") != std::string::npos || dotted.size() > 255;
  const bool odd =
      std::any_of(dotted.begin(), dotted.end(), [](char c) { return static_cast<unsigned char>(c) <= ' '; });
  // "/" stands for a dot within a component (an interface "eth0.100"); "//" would be ".." on disk.
  const bool climbs = dotted.find("//") != std::string::npos || dotted.find("./.") != std::string::npos ||
                      dotted.ends_with("./") || dotted.starts_with("/");
  if (empty_part || odd || climbs) return errorf(ErrorKind::kInvalid, "linux.sysctl: \"{}\" is no sysctl name", name);

  if (is_one_of(dotted, std::array<std::string_view, 10>{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni",
                                                         "kernel.sem", "kernel.shmall", "kernel.shmmax",
                                                         "kernel.shmmni", "kernel.shm_rmid_forced",
                                                         "kernel.msg_next_id", "kernel.sem_next_id"}) ||
      dotted.starts_with("fs.mqueue.")) {
    return NamespaceType::kIpc;
  }
  if (dotted.starts_with("net.")) return NamespaceType::kNetwork;
  if (dotted.starts_with("user.")) return NamespaceType::kUser;
  if (dotted == "kernel.domainname") return NamespaceType::kUts;
  if (dotted == "kernel.hostname") {
    return Error(ErrorKind::kInvalid, "linux.sysctl.kernel.hostname: use the member hostname instead");
  }
  return errorf(ErrorKind::kInvalid,
                "linux.sysctl.{}: is not separate for each container; set it on the host with sysctl(8)", name);
}

Result<void> validate(const Spec& spec) {
  if (!spec.root) return Error(ErrorKind::kInvalid, "root: is missing; it must name the root file system");
  if (spec.root->path.empty()) return Error(ErrorKind::kInvalid, "root.path: is empty");
  const Linux* config = spec.linux_config ? &*spec.linux_config : nullptr;
  if (spec.process) TRY(check_process(*spec.process));
  TRY(check_mounts(spec));
  if (spec.hooks) TRY(check_hooks(*spec.hooks));
  if (!spec.hostname.empty()) {
    TRY(require_namespace(config, NamespaceType::kUts, "hostname"));
    if (spec.hostname.size() > 64) return Error(ErrorKind::kInvalid, "hostname: is longer than 64 bytes");
  }
  if (!spec.domainname.empty()) {
    TRY(require_namespace(config, NamespaceType::kUts, "domainname"));
    if (spec.domainname.size() > 64) return Error(ErrorKind::kInvalid, "domainname: is longer than 64 bytes");
  }
  for (const auto& [key, text] : spec.annotations) {
    if (key.empty()) return Error(ErrorKind::kInvalid, "annotations: a name is empty");
  }
  if (config != nullptr) TRY(check_linux(*config));
  return {};
}

}  // namespace hull::oci
