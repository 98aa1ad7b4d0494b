#pragma once
// A checked configuration as one OCI runtime-spec document. No state is changed here; the host is only looked at
// (device nodes, kernel limits).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/config.h"
#include "oci/runtime_spec.h"
#include "runtime/user_lookup.h"

namespace hull::engine {

/// Everything that the document depends on beside the configuration.
struct SpecInput {
  std::string id;
  const Config* config = nullptr;  // merged with the image's
  runtime::ResolvedUser user;
  std::vector<std::string> lower_dirs;  // uppermost first
  std::string upper_dir, work_dir;
  std::string rootfs;  // the empty folder that root.path names
  std::string hostname;
  std::string hosts_file, hostname_file, resolv_conf_file;  // "" leaves the image's
  /// Of hull.toml, when the configuration names none. For an ordinary user what both come to (cgroup_parent_of), ""
  /// for none at all.
  std::string cgroup_parent;
  bool systemd_cgroup = false;
  /// Executed in a guest: the root is the guest's to mount, devices are those of its kernel, and user_text (--user) is
  /// looked up there instead of `user`.
  bool vm = false;
  std::string user_text;
  std::string init_program;  // host path, with config->init
  std::optional<oci::Box> console_size;
  /// What is mounted: binds, volumes and tmpfs with sources resolved to host paths.
  struct ResolvedMount {
    const MountRequest* request = nullptr;
    std::string source;
    bool read_only = false;  // the volume is, whatever the request says
  };
  std::vector<ResolvedMount> mounts;
  /// Namespaces to join: paths; "" makes a new one, "host" none at all.
  std::string network_namespace, ipc_namespace, pid_namespace, uts_namespace, cgroup_namespace;
  std::string shm_source;  // folder to bind at /dev/shm (--ipc host, container:ID)
  bool swap_accounting = true;
};

Result<oci::Spec> build_spec(const SpecInput& input);

// The parts, each with its tests.

/// --cap-add, --cap-drop, --privileged -> names ("CAP_CHOWN").
Result<std::vector<std::string>> effective_capabilities(const Config& config);

struct SecurityOptions {
  bool no_new_privileges = false;
  bool seccomp_unconfined = false;
  std::string seccomp_profile;  // JSON text
  std::string apparmor;
  std::string selinux_process_label;
  bool systempaths_unconfined = false;
  bool writable_cgroups = false;
};
/// --security-opt; a seccomp profile named by path is read here.
Result<SecurityOptions> parse_security_options(const std::vector<std::string>& options);

/// Docker's profile format (archMap, includes, excludes) -> the specification's.
Result<oci::Seccomp> parse_seccomp_profile(std::string_view json, uint64_t capabilities);

/// --device (folders expanded), --device-cgroup-rule, --privileged.
Result<void> add_devices(const Config& config, oci::Linux* linux_config);
/// The same in a guest: nodes that its kernel has too, nothing of this machine.
Result<void> add_guest_devices(const Config& config, oci::Linux* linux_config);
/// Limits; warnings about what the host can't do are left to the runtime.
Result<oci::Resources> make_resources(const Config& config, bool swap_accounting);
Result<std::vector<oci::Rlimit>> make_rlimits(const std::vector<Ulimit>& ulimits);

/// The options of one requested mount in the specification's words.
Result<oci::Mount> make_mount(const SpecInput::ResolvedMount& mount);

}  // namespace hull::engine
