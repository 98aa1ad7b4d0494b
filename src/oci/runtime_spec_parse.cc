// config.json -> oci::Spec. One `read` function for each type, in the order of runtime_spec.h.

#include <charconv>

#include "base/error_format.h"
#include "oci/json_reader.h"
#include "oci/runtime_spec.h"

namespace hull::oci {

namespace {

constexpr size_t kMaxSpecBytes = 16 << 20;

using Key = std::string_view;

}  // namespace

// Static functions rather than an unnamed namespace: read_list finds them by their argument's namespace.

template <typename T>
static bool read_list(JsonReader& in, std::vector<T>& out) {
  in.array([&] { read(in, out.emplace_back()); });
  return true;
}

static bool read(JsonReader& in, Box& out) {
  in.object([&](Key key) {
    if (key == "height") return in.value(out.height);
    if (key == "width") return in.value(out.width);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, User& out) {
  in.object([&](Key key) {
    if (key == "uid") return in.value(out.uid);
    if (key == "gid") return in.value(out.gid);
    if (key == "umask") return in.value(out.umask);
    if (key == "additionalGids") return in.value(out.additional_gids);
    if (key == "username") return in.value(out.username);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Capabilities& out) {
  in.object([&](Key key) {
    if (key == "bounding") return in.value(out.bounding);
    if (key == "effective") return in.value(out.effective);
    if (key == "inheritable") return in.value(out.inheritable);
    if (key == "permitted") return in.value(out.permitted);
    if (key == "ambient") return in.value(out.ambient);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Rlimit& out) {
  in.object([&](Key key) {
    if (key == "type") return in.value(out.type);
    if (key == "hard") return in.value(out.hard);
    if (key == "soft") return in.value(out.soft);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Scheduler& out) {
  in.object([&](Key key) {
    if (key == "policy") return in.value(out.policy);
    if (key == "nice") return in.value(out.nice);
    if (key == "priority") return in.value(out.priority);
    if (key == "flags") return in.value(out.flags);
    if (key == "runtime") return in.value(out.runtime_ns);
    if (key == "deadline") return in.value(out.deadline_ns);
    if (key == "period") return in.value(out.period_ns);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, IoPriority& out) {
  in.object([&](Key key) {
    if (key == "class") return in.value(out.io_class);
    if (key == "priority") return in.value(out.priority);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, CpuAffinity& out) {
  in.object([&](Key key) {
    if (key == "initial") return in.value(out.initial);
    if (key == "final") return in.value(out.final);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Process& out) {
  in.object([&](Key key) {
    if (key == "terminal") return in.value(out.terminal);
    if (key == "consoleSize") return read(in, out.console_size.emplace());
    if (key == "user") return read(in, out.user);
    if (key == "args") return in.value(out.args);
    if (key == "env") return in.value(out.env);
    if (key == "cwd") return in.value(out.cwd);
    if (key == "capabilities") return read(in, out.capabilities.emplace());
    if (key == "rlimits") return read_list(in, out.rlimits);
    if (key == "noNewPrivileges") return in.value(out.no_new_privileges);
    if (key == "apparmorProfile") return in.value(out.apparmor_profile);
    if (key == "selinuxLabel") return in.value(out.selinux_label);
    if (key == "oomScoreAdj") return in.value(out.oom_score_adj);
    if (key == "scheduler") return read(in, out.scheduler.emplace());
    if (key == "ioPriority") return read(in, out.io_priority.emplace());
    if (key == "execCPUAffinity") return read(in, out.exec_cpu_affinity.emplace());
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Root& out) {
  in.object([&](Key key) {
    if (key == "path") return in.value(out.path);
    if (key == "readonly") return in.value(out.readonly);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, IdMapping& out) {
  in.object([&](Key key) {
    if (key == "containerID") return in.value(out.container_id);
    if (key == "hostID") return in.value(out.host_id);
    if (key == "size") return in.value(out.size);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Mount& out) {
  in.object([&](Key key) {
    if (key == "destination") return in.value(out.destination);
    if (key == "type") return in.value(out.type);
    if (key == "source") return in.value(out.source);
    if (key == "options") return in.value(out.options);
    if (key == "uidMappings") return read_list(in, out.uid_mappings);
    if (key == "gidMappings") return read_list(in, out.gid_mappings);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Hook& out) {
  in.object([&](Key key) {
    if (key == "path") return in.value(out.path);
    if (key == "args") return in.value(out.args);
    if (key == "env") return in.value(out.env);
    if (key == "timeout") return in.value(out.timeout_s);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Hooks& out) {
  in.object([&](Key key) {
    if (key == "prestart") return read_list(in, out.prestart);
    if (key == "createRuntime") return read_list(in, out.create_runtime);
    if (key == "createContainer") return read_list(in, out.create_container);
    if (key == "startContainer") return read_list(in, out.start_container);
    if (key == "poststart") return read_list(in, out.poststart);
    if (key == "poststop") return read_list(in, out.poststop);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Namespace& out) {
  bool typed = false;
  in.object([&](Key key) {
    if (key == "type") {
      std::string name;
      in.value(name);
      if (in.failed()) return true;
      Result<NamespaceType> type = parse_namespace_type(name);
      if (!type.ok()) {
        in.fail(type.error().message());
        return true;
      }
      out.type = *type;
      typed = true;
      return true;
    }
    if (key == "path") return in.value(out.path);
    return false;
  });
  if (!typed) in.fail("has no type");
  return true;
}

static bool read(JsonReader& in, Device& out) {
  in.object([&](Key key) {
    if (key == "path") return in.value(out.path);
    if (key == "type") return in.value(out.type);
    if (key == "major") return in.value(out.major);
    if (key == "minor") return in.value(out.minor);
    if (key == "fileMode") return in.value(out.file_mode);
    if (key == "uid") return in.value(out.uid);
    if (key == "gid") return in.value(out.gid);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, DeviceCgroup& out) {
  in.object([&](Key key) {
    if (key == "allow") return in.value(out.allow);
    if (key == "type") return in.value(out.type);
    if (key == "major") return in.value(out.major);
    if (key == "minor") return in.value(out.minor);
    if (key == "access") return in.value(out.access);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, MemoryResources& out) {
  in.object([&](Key key) {
    if (key == "limit") return in.value(out.limit);
    if (key == "reservation") return in.value(out.reservation);
    if (key == "swap") return in.value(out.swap);
    if (key == "kernel") return in.value(out.kernel);
    if (key == "kernelTCP") return in.value(out.kernel_tcp);
    if (key == "swappiness") return in.value(out.swappiness);
    if (key == "disableOOMKiller") return in.value(out.disable_oom_killer);
    if (key == "useHierarchy") return in.value(out.use_hierarchy);
    if (key == "checkBeforeUpdate") return in.value(out.check_before_update);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, CpuResources& out) {
  in.object([&](Key key) {
    if (key == "shares") return in.value(out.shares);
    if (key == "quota") return in.value(out.quota);
    if (key == "burst") return in.value(out.burst);
    if (key == "period") return in.value(out.period);
    if (key == "realtimeRuntime") return in.value(out.realtime_runtime);
    if (key == "realtimePeriod") return in.value(out.realtime_period);
    if (key == "cpus") return in.value(out.cpus);
    if (key == "mems") return in.value(out.mems);
    if (key == "idle") return in.value(out.idle);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, WeightDevice& out) {
  in.object([&](Key key) {
    if (key == "major") return in.value(out.major);
    if (key == "minor") return in.value(out.minor);
    if (key == "weight") return in.value(out.weight);
    if (key == "leafWeight") return in.value(out.leaf_weight);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, ThrottleDevice& out) {
  in.object([&](Key key) {
    if (key == "major") return in.value(out.major);
    if (key == "minor") return in.value(out.minor);
    if (key == "rate") return in.value(out.rate);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, BlockIoResources& out) {
  in.object([&](Key key) {
    if (key == "weight") return in.value(out.weight);
    if (key == "leafWeight") return in.value(out.leaf_weight);
    if (key == "weightDevice") return read_list(in, out.weight_device);
    if (key == "throttleReadBpsDevice") return read_list(in, out.throttle_read_bps);
    if (key == "throttleWriteBpsDevice") return read_list(in, out.throttle_write_bps);
    if (key == "throttleReadIOPSDevice") return read_list(in, out.throttle_read_iops);
    if (key == "throttleWriteIOPSDevice") return read_list(in, out.throttle_write_iops);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, HugepageLimit& out) {
  in.object([&](Key key) {
    if (key == "pageSize") return in.value(out.page_size);
    if (key == "limit") return in.value(out.limit);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, InterfacePriority& out) {
  in.object([&](Key key) {
    if (key == "name") return in.value(out.name);
    if (key == "priority") return in.value(out.priority);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, NetworkResources& out) {
  in.object([&](Key key) {
    if (key == "classID") return in.value(out.class_id);
    if (key == "priorities") return read_list(in, out.priorities);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, RdmaLimit& out) {
  in.object([&](Key key) {
    if (key == "hcaHandles") return in.value(out.hca_handles);
    if (key == "hcaObjects") return in.value(out.hca_objects);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Resources& out) {
  in.object([&](Key key) {
    if (key == "devices") return read_list(in, out.devices);
    if (key == "memory") return read(in, out.memory.emplace());
    if (key == "cpu") return read(in, out.cpu.emplace());
    if (key == "pids") {
      in.object([&](Key inner) { return inner == "limit" && in.value(out.pids_limit); });
      return true;
    }
    if (key == "blockIO") return read(in, out.block_io.emplace());
    if (key == "hugepageLimits") return read_list(in, out.hugepage_limits);
    if (key == "network") return read(in, out.network.emplace());
    if (key == "rdma") {
      in.object([&](Key device) { return read(in, out.rdma[std::string(device)]); });
      return true;
    }
    if (key == "unified") return in.value(out.unified);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, SeccompArg& out) {
  in.object([&](Key key) {
    if (key == "index") return in.value(out.index);
    if (key == "value") return in.value(out.value);
    if (key == "valueTwo") return in.value(out.value_two);
    if (key == "op") return in.value(out.op);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, SeccompRule& out) {
  in.object([&](Key key) {
    if (key == "names") return in.value(out.names);
    if (key == "action") return in.value(out.action);
    if (key == "errnoRet") return in.value(out.errno_ret);
    if (key == "args") return read_list(in, out.args);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Seccomp& out) {
  in.object([&](Key key) {
    if (key == "defaultAction") return in.value(out.default_action);
    if (key == "defaultErrnoRet") return in.value(out.default_errno_ret);
    if (key == "architectures") return in.value(out.architectures);
    if (key == "flags") return in.value(out.flags);
    if (key == "listenerPath") return in.value(out.listener_path);
    if (key == "listenerMetadata") return in.value(out.listener_metadata);
    if (key == "syscalls") return read_list(in, out.syscalls);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, IntelRdt& out) {
  in.object([&](Key key) {
    if (key == "closID") return in.value(out.clos_id);
    if (key == "schemata") return in.value(out.schemata);
    if (key == "l3CacheSchema") return in.value(out.l3_cache_schema);
    if (key == "memBwSchema") return in.value(out.mem_bw_schema);
    // 1.3 has enableMonitoring; up to 1.2 two switches asked for the same monitoring group.
    if (key == "enableMonitoring" || key == "enableCMT" || key == "enableMBM") {
      bool enable = false;
      in.value(enable);
      out.enable_monitoring = out.enable_monitoring || enable;
      return true;
    }
    return false;
  });
  return true;
}

static bool read(JsonReader& in, MemoryPolicy& out) {
  in.object([&](Key key) {
    if (key == "mode") return in.value(out.mode);
    if (key == "nodes") return in.value(out.nodes);
    if (key == "flags") return in.value(out.flags);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Personality& out) {
  in.object([&](Key key) {
    if (key == "domain") return in.value(out.domain);
    if (key == "flags") return in.value(out.flags);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, TimeOffset& out) {
  in.object([&](Key key) {
    if (key == "secs") return in.value(out.secs);
    if (key == "nanosecs") return in.value(out.nanosecs);
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Linux& out) {
  in.object([&](Key key) {
    if (key == "uidMappings") return read_list(in, out.uid_mappings);
    if (key == "gidMappings") return read_list(in, out.gid_mappings);
    if (key == "sysctl") return in.value(out.sysctl);
    if (key == "resources") return read(in, out.resources.emplace());
    if (key == "cgroupsPath") return in.value(out.cgroups_path);
    if (key == "namespaces") return read_list(in, out.namespaces);
    if (key == "devices") return read_list(in, out.devices);
    if (key == "netDevices") {
      in.object([&](Key host) {
        std::string& inside = out.net_devices[std::string(host)];
        in.object([&](Key inner) { return inner == "name" && in.value(inside); });
        return true;
      });
      return true;
    }
    if (key == "seccomp") return read(in, out.seccomp.emplace());
    if (key == "rootfsPropagation") return in.value(out.rootfs_propagation);
    if (key == "maskedPaths") return in.value(out.masked_paths);
    if (key == "readonlyPaths") return in.value(out.readonly_paths);
    if (key == "mountLabel") return in.value(out.mount_label);
    if (key == "intelRdt") return read(in, out.intel_rdt.emplace());
    if (key == "memoryPolicy") return read(in, out.memory_policy.emplace());
    if (key == "personality") return read(in, out.personality.emplace());
    if (key == "timeOffsets") {
      in.object([&](Key clock) { return read(in, out.time_offsets[std::string(clock)]); });
      return true;
    }
    return false;
  });
  return true;
}

static bool read(JsonReader& in, VmConfig& out) {
  in.object([&](Key key) {
    if (key == "hypervisor") {
      in.object([&](Key inner) {
        if (inner == "path") return in.value(out.hypervisor_path);
        if (inner == "parameters") return in.value(out.hypervisor_parameters);
        return false;
      });
      return true;
    }
    if (key == "kernel") {
      in.object([&](Key inner) {
        if (inner == "path") return in.value(out.kernel_path);
        if (inner == "parameters") return in.value(out.kernel_parameters);
        if (inner == "initrd") return in.value(out.initrd);
        return false;
      });
      return true;
    }
    if (key == "image") {
      in.object([&](Key inner) {
        if (inner == "path") return in.value(out.image_path);
        if (inner == "format") return in.value(out.image_format);
        return false;
      });
      return true;
    }
    return false;
  });
  return true;
}

static bool read(JsonReader& in, Spec& out) {
  in.object([&](Key key) {
    if (key == "ociVersion") return in.value(out.version);
    if (key == "process") return read(in, out.process.emplace());
    if (key == "root") return read(in, out.root.emplace());
    if (key == "hostname") return in.value(out.hostname);
    if (key == "domainname") return in.value(out.domainname);
    if (key == "mounts") return read_list(in, out.mounts);
    if (key == "hooks") return read(in, out.hooks.emplace());
    if (key == "annotations") return in.value(out.annotations);
    if (key == "linux") return read(in, out.linux_config.emplace());
    if (key == "vm") return read(in, out.vm.emplace());
    return false;
  });
  return true;
}

namespace {

/// SemVer 2.0: MAJOR.MINOR.PATCH[-pre][+build]; major 1 is what this runtime implements (config.md, "Specification
/// version": a minor or patch step only adds).
Result<void> check_version(std::string_view version) {
  if (version.empty()) {
    return Error(ErrorKind::kInvalid, "ociVersion: is missing; the specification requires it (for example \"1.3.0\")");
  }
  const std::string_view core = version.substr(0, version.find_first_of("-+"));
  unsigned numbers[3] = {};
  const char* at = core.begin();
  for (int i = 0; i < 3; ++i) {
    const auto [rest, code] = std::from_chars(at, core.end(), numbers[i]);
    const bool separated = i == 2 ? rest == core.end() : rest != core.end() && *rest == '.';
    if (code != std::errc() || !separated) {
      return errorf(ErrorKind::kInvalid, "ociVersion: \"{}\" is not of the form 1.2.3", version.substr(0, 40));
    }
    at = rest + (i == 2 ? 0 : 1);
  }
  if (numbers[0] != 1) {
    return errorf(ErrorKind::kInvalid, "ociVersion: {} is not known; this runtime implements {} (and every other 1.x)",
                  version.substr(0, 40), kRuntimeSpecVersion);
  }
  return {};
}

template <typename T>
Result<T> parse(std::string_view json) {
  if (json.size() > kMaxSpecBytes) {
    return errorf(ErrorKind::kInvalid, "the document has {} bytes; at most {} are accepted", json.size(),
                  kMaxSpecBytes);
  }
  JsonReader in(json);
  T out;
  if (in.take_null()) in.fail("expected an object, found null");
  read(in, out);
  TRY(in.finish());
  return out;
}

struct NamespaceName {
  std::string_view name;
  NamespaceType type;
};
constexpr NamespaceName kNamespaceNames[] = {
    {"pid", NamespaceType::kPid},       {"network", NamespaceType::kNetwork}, {"mount", NamespaceType::kMount},
    {"ipc", NamespaceType::kIpc},       {"uts", NamespaceType::kUts},         {"user", NamespaceType::kUser},
    {"cgroup", NamespaceType::kCgroup}, {"time", NamespaceType::kTime},
};

}  // namespace

Result<Spec> parse_spec(std::string_view json) {
  TRY_ASSIGN(Spec spec, parse<Spec>(json));
  TRY(check_version(spec.version));
  return spec;
}

Result<Process> parse_process(std::string_view json) { return parse<Process>(json); }

Result<Resources> parse_resources(std::string_view json) { return parse<Resources>(json); }

std::string_view to_string(NamespaceType type) {
  for (const NamespaceName& entry : kNamespaceNames) {
    if (entry.type == type) return entry.name;
  }
  return "unknown";
}

Result<NamespaceType> parse_namespace_type(std::string_view name) {
  for (const NamespaceName& entry : kNamespaceNames) {
    if (entry.name == name) return entry.type;
  }
  return errorf(ErrorKind::kInvalid,
                "\"{}\" is no namespace type; there are pid, network, mount, ipc, uts, user, cgroup and time",
                name.substr(0, 40));
}

}  // namespace hull::oci
