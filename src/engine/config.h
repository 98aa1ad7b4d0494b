#pragma once
// What a user can ask of a workload, in the shape of Docker's create request (Config, HostConfig), so that the command
// line, the API and compose files all fill the same structure. Sizes in bytes, durations in the unit of their name.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/image_spec.h"
#include "oci/runtime_spec.h"

namespace hull::engine {

enum class Isolation { kContainer, kVm };
/// "container", "vm".
std::string_view to_string(Isolation isolation);

enum class PullPolicy { kMissing, kAlways, kNever };

struct Ulimit {
  std::string name;            // nofile
  int64_t soft = 0, hard = 0;  // -1: unlimited
};

struct DeviceMapping {
  std::string host_path, container_path, permissions = "rwm";
};

/// One -v, --mount or --tmpfs.
struct MountRequest {
  enum class Type { kBind, kVolume, kTmpfs };
  Type type = Type::kBind;
  std::string source;  // host path, volume name ("" = anonymous), or empty for tmpfs
  std::string target;
  bool read_only = false;
  bool create_source = false;        // -v makes a missing host folder, --mount refuses
  bool no_copy = false;              // volume-nocopy
  std::string propagation;           // rprivate ...; empty: the default
  bool recursive_read_only = false;  // bind-recursive=readonly
  bool non_recursive = false;        // bind-recursive=disabled
  std::optional<int64_t> tmpfs_size;
  std::optional<uint32_t> tmpfs_mode;
  std::vector<std::string> tmpfs_options;  // as written after --tmpfs path:
  std::string volume_driver;
  std::map<std::string, std::string> volume_options, volume_labels;
};

struct PortRequest {
  std::string host_ip;
  uint16_t host_port = 0;       // 0: any free one
  uint16_t host_port_last = 0;  // more than host_port: the first free one of this range
  uint16_t container_port = 0;
  std::string protocol = "tcp";
};

/// One network that a workload is to be on, and as what: Docker's EndpointSettings.
struct NetworkAttachment {
  std::string network;               // name, or id
  std::vector<std::string> aliases;  // names that others on it know the workload by
  std::vector<std::string> links;    // "workload:alias": names for others that only this workload knows
  std::string ipv4, ipv6, mac_address;
  std::map<std::string, std::string> driver_options;
  int gateway_priority = 0;  // the highest has the default route; alike: the first by name
};

struct RestartPolicy {
  std::string name = "no";  // "" and "no", always, unless-stopped, on-failure
  int maximum_retries = 0;  // with on-failure; 0: no limit
  bool restarts() const { return !name.empty() && name != "no"; }
};

/// How to run one workload. In the order of topics, not of sizes.
struct Config {  // NOLINT(clang-analyzer-optin.performance.Padding)
  // What runs
  std::string image;  // as the user wrote it
  std::vector<std::string> cmd;
  std::optional<std::vector<std::string>> entrypoint;  // set: replaces the image's; {""} or {} clears it
  std::vector<std::string> env;
  std::string working_dir, user;
  std::vector<std::string> groups_add;
  std::map<std::string, std::string> labels, annotations;
  std::string stop_signal;
  std::optional<int> stop_timeout_s;
  bool tty = false, open_stdin = false, attach_stdin = false, attach_stdout = true, attach_stderr = true;
  bool stdin_once = false;  // the end of the first client's input is the program's
  bool init = false;
  std::optional<oci::Box> console_size;  // of the terminal at the start; not kept
  bool quiet_pull = false;               // no progress while the image is pulled; not kept
  // Where
  std::string name, platform;
  Isolation isolation = Isolation::kContainer;
  std::string hypervisor;                          // of a VM: "" (hull.toml's), auto, kvm, qemu
  std::map<std::string, std::string> storage_opt;  // of a VM: size
  std::string hostname, domainname;
  bool auto_remove = false;
  RestartPolicy restart;
  // Health: as the image has it where nothing is said (test empty, durations 0); test {"NONE"}: no checks.
  std::optional<oci::HealthConfig> healthcheck;
  std::string health_on_failure;  // "" and "none", kill, restart, stop
  bool has_health_check() const {
    return healthcheck && !healthcheck->test.empty() && healthcheck->test.front() != "NONE";
  }
  // Files
  std::vector<MountRequest> mounts;
  std::vector<std::string> volumes_from;
  bool read_only_rootfs = false;
  int64_t shm_size = 64 << 20;
  // Rights
  bool privileged = false;
  std::vector<std::string> cap_add, cap_drop, security_opt;
  std::vector<DeviceMapping> devices;
  std::vector<std::string> device_cgroup_rules;
  std::map<std::string, std::string> sysctls;
  std::vector<Ulimit> ulimits;
  // Namespaces: "", "host", "private", "shareable", "none", "container:ID"
  std::string ipc_mode, pid_mode, uts_mode, userns_mode, cgroupns_mode;
  // Limits
  int64_t memory = 0, memory_swap = 0, memory_reservation = 0, kernel_memory = 0;  // 0: none; memory_swap -1: unlimited
  std::optional<int64_t> memory_swappiness;
  bool oom_kill_disable = false;
  int64_t nano_cpus = 0, cpu_shares = 0, cpu_period = 0, cpu_quota = 0, cpu_rt_period = 0, cpu_rt_runtime = 0;
  std::string cpuset_cpus, cpuset_mems;
  int64_t pids_limit = 0;
  std::optional<int> oom_score_adj;
  uint16_t blkio_weight = 0;
  struct DeviceRate {
    std::string path;
    uint64_t rate = 0;
  };
  std::vector<DeviceRate> device_read_bps, device_write_bps, device_read_iops, device_write_iops, blkio_weight_device;
  std::string cgroup_parent;
  // Network
  std::string network = "bridge";  // bridge, none, host, container:ID, or a network of the user's
  /// What it is on, in the order asked for; empty: what `network` says. See attachments().
  std::vector<NetworkAttachment> networks;
  std::vector<PortRequest> ports;
  bool publish_all = false;
  std::vector<std::string> exposed_ports;
  std::vector<std::string> dns, dns_search, dns_options, extra_hosts, network_aliases, links;
  std::string ip, ip6, mac_address;
  // Logs
  std::string log_driver;                          // "" (hull.toml's), json-file, local, journald, none
  std::map<std::string, std::string> log_options;  // see log_config.h
  std::string runtime;
};

/// The networks that a workload is to be on: `networks`, or the one that `network` says, with ip, ip6, mac_address,
/// network_aliases and (on a network of the user's) links folded into it. None with host, none and container:ID.
std::vector<NetworkAttachment> attachments(const Config& config);
/// Whether the mode is one with a network namespace and networks of its own: neither host, none nor container:ID.
bool has_own_networks(std::string_view network_mode);

/// A process started beside the first one.
struct ExecConfig {
  std::vector<std::string> cmd;
  std::vector<std::string> env;
  std::string working_dir, user;
  bool tty = false, open_stdin = false, privileged = false, detach = false;
  bool open_stdout = true, open_stderr = true;  // whether an exec in steps shows them
  std::string detach_keys;
};

/// Docker's JSON for a stored config and back (Config + HostConfig objects in one document, the form of the create
/// request). Unknown members are refused with their name.
std::string to_json(const Config& config);
Result<Config> parse_config(std::string_view json);

}  // namespace hull::engine
