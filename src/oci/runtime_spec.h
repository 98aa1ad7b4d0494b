#pragma once
// The OCI runtime specification 1.3 as C++ types: config.json for Linux (config.md, config-linux.md) and the state
// document (runtime.md). Field names are the specification's in snake_case. A member that the document may omit and
// whose absence means something is std::optional. Names that the kernel interprets (capabilities, rlimits, seccomp
// actions) stay strings here; the isolation room turns them into numbers and says what it does not know.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::oci {

inline constexpr std::string_view kRuntimeSpecVersion = "1.3.0";

struct Box {
  uint32_t height = 0;
  uint32_t width = 0;
};

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::optional<uint32_t> umask;
  std::vector<uint32_t> additional_gids;
  std::string username;  // Windows only; kept
};

struct Capabilities {
  std::vector<std::string> bounding, effective, inheritable, permitted, ambient;
};

struct Rlimit {
  std::string type;  // RLIMIT_NOFILE ...
  uint64_t hard = 0;
  uint64_t soft = 0;
};

struct Scheduler {
  std::string policy;  // SCHED_OTHER ...
  int32_t nice = 0;
  int32_t priority = 0;
  std::vector<std::string> flags;
  uint64_t runtime_ns = 0;
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
};

struct IoPriority {
  std::string io_class;  // IOPRIO_CLASS_RT ...
  int priority = 0;
};

struct CpuAffinity {
  std::string initial, final;
};

struct Process {
  bool terminal = false;
  std::optional<Box> console_size;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<int> oom_score_adj;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<CpuAffinity> exec_cpu_affinity;
};

struct Root {
  std::string path;
  bool readonly = false;
};

struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t size = 0;
  bool operator==(const IdMapping&) const = default;
};

struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  std::vector<IdMapping> uid_mappings, gid_mappings;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<int> timeout_s;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
};

enum class NamespaceType { kPid, kNetwork, kMount, kIpc, kUts, kUser, kCgroup, kTime };

struct Namespace {
  NamespaceType type = NamespaceType::kPid;
  std::string path;  // empty: a new one
};

struct Device {
  std::string path;
  std::string type;  // c, b, u, p
  int64_t major = 0;
  int64_t minor = 0;
  std::optional<uint32_t> file_mode;
  std::optional<uint32_t> uid, gid;
};

struct DeviceCgroup {
  bool allow = false;
  std::string type;  // a, c, b; empty means a
  std::optional<int64_t> major, minor;
  std::string access;  // r, w, m
};

struct MemoryResources {
  std::optional<int64_t> limit, reservation, swap, kernel, kernel_tcp;
  std::optional<uint64_t> swappiness;
  std::optional<bool> disable_oom_killer, use_hierarchy, check_before_update;
};

struct CpuResources {
  std::optional<uint64_t> shares;
  std::optional<int64_t> quota;
  std::optional<uint64_t> burst, period;
  std::optional<int64_t> realtime_runtime;
  std::optional<uint64_t> realtime_period;
  std::string cpus, mems;
  std::optional<int64_t> idle;
};

struct WeightDevice {
  int64_t major = 0, minor = 0;
  std::optional<uint16_t> weight, leaf_weight;
};
struct ThrottleDevice {
  int64_t major = 0, minor = 0;
  uint64_t rate = 0;
};
struct BlockIoResources {
  std::optional<uint16_t> weight, leaf_weight;
  std::vector<WeightDevice> weight_device;
  std::vector<ThrottleDevice> throttle_read_bps, throttle_write_bps, throttle_read_iops, throttle_write_iops;
};

struct HugepageLimit {
  std::string page_size;  // 2MB, 1GB ...
  uint64_t limit = 0;
};

struct InterfacePriority {
  std::string name;
  uint32_t priority = 0;
};
struct NetworkResources {
  std::optional<uint32_t> class_id;
  std::vector<InterfacePriority> priorities;
};

struct RdmaLimit {
  std::optional<uint32_t> hca_handles, hca_objects;
};

struct Resources {
  std::vector<DeviceCgroup> devices;
  std::optional<MemoryResources> memory;
  std::optional<CpuResources> cpu;
  std::optional<int64_t> pids_limit;
  std::optional<BlockIoResources> block_io;
  std::vector<HugepageLimit> hugepage_limits;
  std::optional<NetworkResources> network;
  std::map<std::string, RdmaLimit> rdma;
  std::map<std::string, std::string> unified;
};

struct SeccompArg {
  uint32_t index = 0;
  uint64_t value = 0;
  uint64_t value_two = 0;
  std::string op;  // SCMP_CMP_EQ ...
};
struct SeccompRule {
  std::vector<std::string> names;
  std::string action;
  std::optional<uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};
struct Seccomp {
  std::string default_action;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures;
  std::vector<std::string> flags;
  std::string listener_path;
  std::string listener_metadata;
  std::vector<SeccompRule> syscalls;
};

struct IntelRdt {
  std::string clos_id;
  std::vector<std::string> schemata;
  std::string l3_cache_schema, mem_bw_schema;
  bool enable_monitoring = false;
};

struct MemoryPolicy {
  std::string mode;  // MPOL_BIND ...
  std::string nodes;
  std::vector<std::string> flags;
};

struct Personality {
  std::string domain;  // LINUX, LINUX32
  std::vector<std::string> flags;
};

struct TimeOffset {
  int64_t secs = 0;
  uint32_t nanosecs = 0;
};

struct Linux {
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::map<std::string, std::string> sysctl;
  std::optional<Resources> resources;
  std::string cgroups_path;
  std::vector<Namespace> namespaces;
  std::vector<Device> devices;
  std::map<std::string, std::string> net_devices;  // host name -> name inside ("" keeps it)
  std::optional<Seccomp> seccomp;
  std::string rootfs_propagation;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::string mount_label;
  std::optional<IntelRdt> intel_rdt;
  std::optional<MemoryPolicy> memory_policy;
  std::optional<Personality> personality;
  std::map<std::string, TimeOffset> time_offsets;  // monotonic, boottime
};

/// The `vm` object (config-vm.md); present means that the author asks for a virtual machine.
struct VmConfig {
  std::string hypervisor_path;
  std::vector<std::string> hypervisor_parameters;
  std::string kernel_path;
  std::vector<std::string> kernel_parameters;
  std::string initrd;
  std::string image_path, image_format;
};

/// One config.json.
struct Spec {
  std::string version;  // ociVersion
  std::optional<Process> process;
  std::optional<Root> root;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  std::optional<Hooks> hooks;
  std::map<std::string, std::string> annotations;
  std::optional<Linux> linux_config;
  std::optional<VmConfig> vm;
};

/// The state document (runtime.md, "State").
struct State {
  std::string version;
  std::string id;
  std::string status;  // creating, created, running, stopped (paused: runc's addition)
  int pid = 0;         // 0 when stopped
  std::string bundle;
  std::map<std::string, std::string> annotations;
};

/// Reads a config.json. Unknown members are ignored as the specification asks; wrong types, absurd sizes (the text is
/// at most 16 MiB), unknown spec major versions and values outside their range are kInvalid errors that name the
/// member ("linux.resources.memory.limit: ...").
Result<Spec> parse_spec(std::string_view json);
/// Reads one process object (exec --process).
Result<Process> parse_process(std::string_view json);
/// Reads one resources object (update --resources).
Result<Resources> parse_resources(std::string_view json);

/// Prints as the specification's JSON; parse_spec(to_json(x)) gives x again. indent < 0 prints one line.
std::string to_json(const Spec& spec, int indent = -1);
std::string to_json(const Process& process, int indent = -1);
std::string to_json(const Resources& resources, int indent = -1);
std::string to_json(const State& state, int indent = -1);

std::string_view to_string(NamespaceType type);
Result<NamespaceType> parse_namespace_type(std::string_view name);

/// The namespace that a sysctl belongs to ("net.ipv4.ip_forward", also with '/' between the parts as sysctl(8) takes
/// it); kInvalid when it is the whole host's, or no name of a sysctl.
Result<NamespaceType> sysctl_namespace(std::string_view name);

/// Checks what the document's schema can't say: absolute paths, args present, namespaces not doubled, mappings given
/// where a user namespace is, sysctls that their namespaces allow, and so on. Changes nothing.
Result<void> validate(const Spec& spec);

}  // namespace hull::oci
