// oci::Spec -> config.json, in the member order of the specification's own example.

#include "oci/json_writer.h"
#include "oci/runtime_spec.h"

namespace hull::oci {

// Static functions rather than an unnamed namespace: the templates below find them by their argument's namespace.

template <typename T>
static void print_list(JsonWriter& out, std::string_view key, const std::vector<T>& list) {
  if (list.empty()) return;
  out.array(key, [&] {
    for (const T& item : list) print(out, item);
  });
}

template <typename T>
static void print_opt(JsonWriter& out, std::string_view key, const std::optional<T>& what) {
  if (!what) return;
  out.name(key);
  print(out, *what);
}

static void print(JsonWriter& out, const Box& box) {
  out.object([&] {
    out.member("height", box.height);
    out.member("width", box.width);
  });
}

static void print(JsonWriter& out, const User& user) {
  out.object([&] {
    out.member("uid", user.uid);
    out.member("gid", user.gid);
    out.member_opt("umask", user.umask);
    out.member_opt("additionalGids", user.additional_gids);
    out.member_opt("username", user.username);
  });
}

static void print(JsonWriter& out, const Capabilities& caps) {
  out.object([&] {
    out.member_opt("bounding", caps.bounding);
    out.member_opt("effective", caps.effective);
    out.member_opt("inheritable", caps.inheritable);
    out.member_opt("permitted", caps.permitted);
    out.member_opt("ambient", caps.ambient);
  });
}

static void print(JsonWriter& out, const Rlimit& limit) {
  out.object([&] {
    out.member("type", limit.type);
    out.member("hard", limit.hard);
    out.member("soft", limit.soft);
  });
}

static void print(JsonWriter& out, const Scheduler& scheduler) {
  out.object([&] {
    out.member("policy", scheduler.policy);
    out.member_opt("nice", scheduler.nice);
    out.member_opt("priority", scheduler.priority);
    out.member_opt("flags", scheduler.flags);
    out.member_opt("runtime", scheduler.runtime_ns);
    out.member_opt("deadline", scheduler.deadline_ns);
    out.member_opt("period", scheduler.period_ns);
  });
}

static void print(JsonWriter& out, const IoPriority& io) {
  out.object([&] {
    out.member("class", io.io_class);
    out.member("priority", io.priority);
  });
}

static void print(JsonWriter& out, const CpuAffinity& affinity) {
  out.object([&] {
    out.member_opt("initial", affinity.initial);
    out.member_opt("final", affinity.final);
  });
}

static void print(JsonWriter& out, const Process& process) {
  out.object([&] {
    out.member_opt("terminal", process.terminal);
    print_opt(out, "consoleSize", process.console_size);
    out.name("user");
    print(out, process.user);
    out.member_opt("args", process.args);
    out.member_opt("env", process.env);
    out.member("cwd", process.cwd);
    print_opt(out, "capabilities", process.capabilities);
    print_list(out, "rlimits", process.rlimits);
    out.member_opt("noNewPrivileges", process.no_new_privileges);
    out.member_opt("apparmorProfile", process.apparmor_profile);
    out.member_opt("oomScoreAdj", process.oom_score_adj);
    print_opt(out, "scheduler", process.scheduler);
    out.member_opt("selinuxLabel", process.selinux_label);
    print_opt(out, "ioPriority", process.io_priority);
    print_opt(out, "execCPUAffinity", process.exec_cpu_affinity);
  });
}

static void print(JsonWriter& out, const Root& root) {
  out.object([&] {
    out.member("path", root.path);
    out.member_opt("readonly", root.readonly);
  });
}

static void print(JsonWriter& out, const IdMapping& mapping) {
  out.object([&] {
    out.member("containerID", mapping.container_id);
    out.member("hostID", mapping.host_id);
    out.member("size", mapping.size);
  });
}

static void print(JsonWriter& out, const Mount& mount) {
  out.object([&] {
    out.member("destination", mount.destination);
    out.member_opt("type", mount.type);
    out.member_opt("source", mount.source);
    out.member_opt("options", mount.options);
    print_list(out, "uidMappings", mount.uid_mappings);
    print_list(out, "gidMappings", mount.gid_mappings);
  });
}

static void print(JsonWriter& out, const Hook& hook) {
  out.object([&] {
    out.member("path", hook.path);
    out.member_opt("args", hook.args);
    out.member_opt("env", hook.env);
    out.member_opt("timeout", hook.timeout_s);
  });
}

static void print(JsonWriter& out, const Hooks& hooks) {
  out.object([&] {
    print_list(out, "prestart", hooks.prestart);
    print_list(out, "createRuntime", hooks.create_runtime);
    print_list(out, "createContainer", hooks.create_container);
    print_list(out, "startContainer", hooks.start_container);
    print_list(out, "poststart", hooks.poststart);
    print_list(out, "poststop", hooks.poststop);
  });
}

static void print(JsonWriter& out, const Namespace& space) {
  out.object([&] {
    out.member("type", to_string(space.type));
    out.member_opt("path", space.path);
  });
}

static void print(JsonWriter& out, const Device& device) {
  out.object([&] {
    out.member("path", device.path);
    out.member("type", device.type);
    out.member("major", device.major);
    out.member("minor", device.minor);
    out.member_opt("fileMode", device.file_mode);
    out.member_opt("uid", device.uid);
    out.member_opt("gid", device.gid);
  });
}

static void print(JsonWriter& out, const DeviceCgroup& rule) {
  out.object([&] {
    out.member("allow", rule.allow);
    out.member_opt("type", rule.type);
    out.member_opt("major", rule.major);
    out.member_opt("minor", rule.minor);
    out.member_opt("access", rule.access);
  });
}

static void print(JsonWriter& out, const MemoryResources& memory) {
  out.object([&] {
    out.member_opt("limit", memory.limit);
    out.member_opt("reservation", memory.reservation);
    out.member_opt("swap", memory.swap);
    out.member_opt("kernel", memory.kernel);
    out.member_opt("kernelTCP", memory.kernel_tcp);
    out.member_opt("swappiness", memory.swappiness);
    out.member_opt("disableOOMKiller", memory.disable_oom_killer);
    out.member_opt("useHierarchy", memory.use_hierarchy);
    out.member_opt("checkBeforeUpdate", memory.check_before_update);
  });
}

static void print(JsonWriter& out, const CpuResources& cpu) {
  out.object([&] {
    out.member_opt("shares", cpu.shares);
    out.member_opt("quota", cpu.quota);
    out.member_opt("burst", cpu.burst);
    out.member_opt("period", cpu.period);
    out.member_opt("realtimeRuntime", cpu.realtime_runtime);
    out.member_opt("realtimePeriod", cpu.realtime_period);
    out.member_opt("cpus", cpu.cpus);
    out.member_opt("mems", cpu.mems);
    out.member_opt("idle", cpu.idle);
  });
}

static void print(JsonWriter& out, const WeightDevice& device) {
  out.object([&] {
    out.member("major", device.major);
    out.member("minor", device.minor);
    out.member_opt("weight", device.weight);
    out.member_opt("leafWeight", device.leaf_weight);
  });
}

static void print(JsonWriter& out, const ThrottleDevice& device) {
  out.object([&] {
    out.member("major", device.major);
    out.member("minor", device.minor);
    out.member("rate", device.rate);
  });
}

static void print(JsonWriter& out, const BlockIoResources& io) {
  out.object([&] {
    out.member_opt("weight", io.weight);
    out.member_opt("leafWeight", io.leaf_weight);
    print_list(out, "weightDevice", io.weight_device);
    print_list(out, "throttleReadBpsDevice", io.throttle_read_bps);
    print_list(out, "throttleWriteBpsDevice", io.throttle_write_bps);
    print_list(out, "throttleReadIOPSDevice", io.throttle_read_iops);
    print_list(out, "throttleWriteIOPSDevice", io.throttle_write_iops);
  });
}

static void print(JsonWriter& out, const HugepageLimit& limit) {
  out.object([&] {
    out.member("pageSize", limit.page_size);
    out.member("limit", limit.limit);
  });
}

static void print(JsonWriter& out, const InterfacePriority& priority) {
  out.object([&] {
    out.member("name", priority.name);
    out.member("priority", priority.priority);
  });
}

static void print(JsonWriter& out, const NetworkResources& network) {
  out.object([&] {
    out.member_opt("classID", network.class_id);
    print_list(out, "priorities", network.priorities);
  });
}

static void print(JsonWriter& out, const Resources& resources) {
  out.object([&] {
    print_list(out, "devices", resources.devices);
    print_opt(out, "memory", resources.memory);
    print_opt(out, "cpu", resources.cpu);
    if (resources.pids_limit) out.object("pids", [&] { out.member("limit", *resources.pids_limit); });
    print_opt(out, "blockIO", resources.block_io);
    print_list(out, "hugepageLimits", resources.hugepage_limits);
    print_opt(out, "network", resources.network);
    if (!resources.rdma.empty()) {
      out.object("rdma", [&] {
        for (const auto& entry : resources.rdma) {
          const RdmaLimit& limit = entry.second;
          out.object(entry.first, [&] {
            out.member_opt("hcaHandles", limit.hca_handles);
            out.member_opt("hcaObjects", limit.hca_objects);
          });
        }
      });
    }
    out.member_opt("unified", resources.unified);
  });
}

static void print(JsonWriter& out, const SeccompArg& arg) {
  out.object([&] {
    out.member("index", arg.index);
    out.member("value", arg.value);
    out.member_opt("valueTwo", arg.value_two);
    out.member("op", arg.op);
  });
}

static void print(JsonWriter& out, const SeccompRule& rule) {
  out.object([&] {
    out.member("names", rule.names);
    out.member("action", rule.action);
    out.member_opt("errnoRet", rule.errno_ret);
    print_list(out, "args", rule.args);
  });
}

static void print(JsonWriter& out, const Seccomp& seccomp) {
  out.object([&] {
    out.member("defaultAction", seccomp.default_action);
    out.member_opt("defaultErrnoRet", seccomp.default_errno_ret);
    out.member_opt("architectures", seccomp.architectures);
    out.member_opt("flags", seccomp.flags);
    out.member_opt("listenerPath", seccomp.listener_path);
    out.member_opt("listenerMetadata", seccomp.listener_metadata);
    print_list(out, "syscalls", seccomp.syscalls);
  });
}

static void print(JsonWriter& out, const IntelRdt& rdt) {
  out.object([&] {
    out.member_opt("closID", rdt.clos_id);
    out.member_opt("schemata", rdt.schemata);
    out.member_opt("l3CacheSchema", rdt.l3_cache_schema);
    out.member_opt("memBwSchema", rdt.mem_bw_schema);
    out.member_opt("enableMonitoring", rdt.enable_monitoring);
  });
}

static void print(JsonWriter& out, const MemoryPolicy& policy) {
  out.object([&] {
    out.member("mode", policy.mode);
    out.member_opt("nodes", policy.nodes);
    out.member_opt("flags", policy.flags);
  });
}

static void print(JsonWriter& out, const Personality& personality) {
  out.object([&] {
    out.member("domain", personality.domain);
    out.member_opt("flags", personality.flags);
  });
}

static void print(JsonWriter& out, const Linux& config) {
  out.object([&] {
    print_list(out, "uidMappings", config.uid_mappings);
    print_list(out, "gidMappings", config.gid_mappings);
    out.member_opt("sysctl", config.sysctl);
    print_opt(out, "resources", config.resources);
    out.member_opt("cgroupsPath", config.cgroups_path);
    print_list(out, "namespaces", config.namespaces);
    print_list(out, "devices", config.devices);
    if (!config.net_devices.empty()) {
      out.object("netDevices", [&] {
        for (const auto& entry : config.net_devices) {
          out.object(entry.first, [&] { out.member_opt("name", entry.second); });
        }
      });
    }
    print_opt(out, "seccomp", config.seccomp);
    out.member_opt("rootfsPropagation", config.rootfs_propagation);
    out.member_opt("maskedPaths", config.masked_paths);
    out.member_opt("readonlyPaths", config.readonly_paths);
    out.member_opt("mountLabel", config.mount_label);
    print_opt(out, "intelRdt", config.intel_rdt);
    print_opt(out, "memoryPolicy", config.memory_policy);
    print_opt(out, "personality", config.personality);
    if (!config.time_offsets.empty()) {
      out.object("timeOffsets", [&] {
        for (const auto& entry : config.time_offsets) {
          const TimeOffset& offset = entry.second;
          out.object(entry.first, [&] {
            out.member_opt("secs", offset.secs);
            out.member_opt("nanosecs", offset.nanosecs);
          });
        }
      });
    }
  });
}

static void print(JsonWriter& out, const VmConfig& vm) {
  out.object([&] {
    if (!vm.hypervisor_path.empty() || !vm.hypervisor_parameters.empty()) {
      out.object("hypervisor", [&] {
        out.member("path", vm.hypervisor_path);
        out.member_opt("parameters", vm.hypervisor_parameters);
      });
    }
    out.object("kernel", [&] {
      out.member("path", vm.kernel_path);
      out.member_opt("parameters", vm.kernel_parameters);
      out.member_opt("initrd", vm.initrd);
    });
    if (!vm.image_path.empty() || !vm.image_format.empty()) {
      out.object("image", [&] {
        out.member("path", vm.image_path);
        out.member("format", vm.image_format);
      });
    }
  });
}

static void print(JsonWriter& out, const Spec& spec) {
  out.object([&] {
    out.member("ociVersion", spec.version);
    print_opt(out, "process", spec.process);
    print_opt(out, "root", spec.root);
    out.member_opt("hostname", spec.hostname);
    out.member_opt("domainname", spec.domainname);
    print_list(out, "mounts", spec.mounts);
    print_opt(out, "hooks", spec.hooks);
    out.member_opt("annotations", spec.annotations);
    print_opt(out, "linux", spec.linux_config);
    print_opt(out, "vm", spec.vm);
  });
}

static void print(JsonWriter& out, const State& state) {
  out.object([&] {
    out.member("ociVersion", state.version);
    out.member("id", state.id);
    out.member("status", state.status);
    out.member_opt("pid", state.pid);
    out.member("bundle", state.bundle);
    out.member_opt("annotations", state.annotations);
  });
}

template <typename T>
static std::string printed(const T& what, int indent) {
  JsonWriter out(indent);
  print(out, what);
  return std::move(out).take();
}

std::string to_json(const Spec& spec, int indent) { return printed(spec, indent); }
std::string to_json(const Process& process, int indent) { return printed(process, indent); }
std::string to_json(const Resources& resources, int indent) { return printed(resources, indent); }
std::string to_json(const State& state, int indent) { return printed(state, indent); }

}  // namespace hull::oci
