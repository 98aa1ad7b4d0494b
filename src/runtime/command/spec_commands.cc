// spec and features.
#include <unistd.h>

#include "base/error_format.h"
#include "isolation/capabilities.h"
#include "isolation/defaults.h"
#include "isolation/seccomp.h"
#include "oci/json_writer.h"
#include "runtime/command/commands.h"
#include "runtime/command/flags.h"
#include "runtime/mount_options.h"
#include "sys/file.h"

namespace hull::runtime::command {
namespace {

oci::Namespace fresh(oci::NamespaceType type) { return {type, ""}; }

oci::Spec example(bool rootless) {
  oci::Spec spec;
  spec.version = std::string(oci::kRuntimeSpecVersion);
  oci::Process process;
  process.terminal = true;
  process.args = {"sh"};
  process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  process.cwd = "/";
  process.no_new_privileges = true;
  const std::vector<std::string> caps = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  process.capabilities = oci::Capabilities{caps, caps, {}, caps, {}};
  process.rlimits = {{"RLIMIT_NOFILE", 1024, 1024}};
  spec.process = process;
  spec.root = oci::Root{"rootfs", true};
  spec.hostname = "hull";
  spec.mounts = {
      {"/proc", "proc", "proc", {}, {}, {}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}, {}, {}},
      {"/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}, {}, {}},
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}, {}, {}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}, {}, {}},
  };
  if (rootless) {
    spec.mounts.push_back({"/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}, {}, {}});
  } else {
    spec.mounts[2].options.emplace_back("gid=5");
    spec.mounts.push_back({"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}, {}, {}});
    spec.mounts.push_back(
        {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}, {}, {}});
  }
  oci::Linux linux_config;
  using Type = oci::NamespaceType;
  linux_config.namespaces = {fresh(Type::kPid), fresh(Type::kIpc), fresh(Type::kUts), fresh(Type::kMount),
                             fresh(Type::kCgroup)};
  if (rootless) {
    linux_config.namespaces.push_back(fresh(Type::kUser));
    linux_config.uid_mappings = {{0, ::geteuid(), 1}};
    linux_config.gid_mappings = {{0, ::getegid(), 1}};
  } else {
    linux_config.namespaces.push_back(fresh(Type::kNetwork));
    linux_config.resources.emplace().devices = {{false, "", {}, {}, "rwm"}};
  }
  for (const std::string_view path : isolation::kDefaultMaskedPaths) linux_config.masked_paths.emplace_back(path);
  for (const std::string_view path : isolation::kDefaultReadonlyPaths) linux_config.readonly_paths.emplace_back(path);
  spec.linux_config = linux_config;
  return spec;
}

}  // namespace

Result<int> spec(const Global& global, const Words& words) {
  std::string bundle = ".";
  bool rootless = false;
  const std::vector<Flag> flags = {{"bundle", 'b', &bundle, "folder to write config.json to"},
                                   {"rootless", 0, &rootless, "for a user without privilege"}};
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} spec [command options]\n\n{}", global.program->name, flags_help(flags)));
    return 0;
  }
  const std::string path = bundle + "/config.json";
  if (sys::exists(path)) return errorf(ErrorKind::kExists, "file {} exists. Remove it first", path);
  TRY(sys::replace_file(path, oci::to_json(example(rootless), 4) + "\n", 0666, false));
  return 0;
}

Result<int> features(const Global& global, const Words&) {
  const bool vm = global.program->isolation == "vm";
  oci::JsonWriter json(4);
  const std::vector<std::string> namespaces = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"};
  const auto enabled = [&](std::string_view name, bool value = true) {
    json.object(name, [&] { json.member("enabled", value); });
  };
  json.object([&] {
    json.member("ociVersionMin", "1.0.0");
    json.member("ociVersionMax", oci::kRuntimeSpecVersion);
    std::vector<std::string> hooks = {"prestart", "createRuntime", "startContainer", "poststart", "poststop"};
    // It runs in a mount namespace that holds the root and is not yet the container's: a virtual machine has none.
    if (!vm) hooks.insert(hooks.begin() + 2, "createContainer");
    json.member("hooks", hooks);
    json.member("mountOptions", known_mount_options());
    json.object("linux", [&] {
      json.member("namespaces", namespaces);
      json.member("capabilities", isolation::capability_names(isolation::all_capabilities()));
      json.object("cgroup", [&] {
        json.member("v1", true);
        json.member("v2", true);
        json.member("systemd", true);
        json.member("systemdUser", false);
        json.member("rdma", true);
      });
      json.object("seccomp", [&] {
        json.member("enabled", true);
        json.member("actions", isolation::seccomp_actions());
        json.member("operators", isolation::seccomp_operators());
        json.member("archs", isolation::seccomp_architectures());
        json.member("knownFlags", isolation::seccomp_known_flags());
        json.member("supportedFlags", isolation::seccomp_supported_flags());
      });
      enabled("apparmor");
      enabled("selinux");
      json.object("intelRdt", [&] {
        json.member("enabled", !vm);
        json.member("schemata", !vm);
        json.member("monitoring", !vm);
      });
      json.object("memoryPolicy", [&] {
        json.member("modes",
                    std::vector<std::string>{"MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
                                             "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"});
        json.member("flags",
                    std::vector<std::string>{"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"});
      });
      json.object("mountExtensions", [&] { enabled("idmap"); });
      enabled("netDevices", !vm);
    });
    json.object("annotations", [&] {
      json.member("io.hull.isolation", global.program->isolation);
      json.member("io.hull.rootOverlay", vm ? "false" : "true");
      json.member("org.opencontainers.runc.checkpoint.enabled", "false");
    });
  });
  print(std::move(json).take() + "\n");
  return 0;
}

}  // namespace hull::runtime::command
