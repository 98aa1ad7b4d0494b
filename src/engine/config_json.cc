// Docker's create request (Engine API 1.44, ContainerConfig and HostConfig) as text, both ways.
#include <fmt/format.h>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/config.h"
#include "engine/config_json_parts.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"

namespace hull::engine {
namespace {

using oci::JsonReader;
using oci::JsonWriter;

std::string_view mount_type_name(MountRequest::Type type) {
  switch (type) {
    case MountRequest::Type::kBind:
      return "bind";
    case MountRequest::Type::kVolume:
      return "volume";
    case MountRequest::Type::kTmpfs:
      return "tmpfs";
  }
  return "bind";
}

void write_mount(JsonWriter& w, const MountRequest& m) {
  w.object([&] {
    w.member("Type", mount_type_name(m.type));
    w.member_opt("Source", m.source);
    w.member("Target", m.target);
    w.member_opt("ReadOnly", m.read_only);
    if (m.type == MountRequest::Type::kBind) {
      w.object("BindOptions", [&] {
        w.member_opt("Propagation", m.propagation);
        w.member_opt("NonRecursive", m.non_recursive);
        w.member_opt("CreateMountpoint", m.create_source);
        w.member_opt("ReadOnlyForceRecursive", m.recursive_read_only);
      });
    } else if (m.type == MountRequest::Type::kVolume) {
      w.object("VolumeOptions", [&] {
        w.member_opt("NoCopy", m.no_copy);
        w.member_opt("Labels", m.volume_labels);
        w.member_opt("Propagation", m.propagation);
        if (!m.volume_driver.empty() || !m.volume_options.empty()) {
          w.object("DriverConfig", [&] {
            w.member_opt("Name", m.volume_driver);
            w.member_opt("Options", m.volume_options);
          });
        }
      });
    } else {
      w.object("TmpfsOptions", [&] {
        if (m.tmpfs_size) w.member("SizeBytes", *m.tmpfs_size);
        if (m.tmpfs_mode) w.member("Mode", *m.tmpfs_mode);
        if (!m.tmpfs_options.empty()) w.member("Options", m.tmpfs_options);
      });
    }
  });
}

bool read_mount(JsonReader& r, MountRequest& m) {
  r.object([&](std::string_view key) {
    if (key == "Type") {
      std::string type;
      r.value(type);
      if (type == "bind")
        m.type = MountRequest::Type::kBind;
      else if (type == "volume")
        m.type = MountRequest::Type::kVolume;
      else if (type == "tmpfs")
        m.type = MountRequest::Type::kTmpfs;
      else
        r.fail("expected bind, volume or tmpfs");
      return true;
    }
    if (key == "Source") return r.value(m.source);
    if (key == "Target") return r.value(m.target);
    if (key == "ReadOnly") return r.value(m.read_only);
    if (key == "Consistency") {
      std::string ignored;  // means nothing on Linux
      return r.value(ignored);
    }
    if (key == "BindOptions") {
      r.object([&](std::string_view name) {
        if (name == "Propagation") return r.value(m.propagation);
        if (name == "NonRecursive") return r.value(m.non_recursive);
        if (name == "CreateMountpoint") return r.value(m.create_source);
        if (name == "ReadOnlyForceRecursive") return r.value(m.recursive_read_only);
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    if (key == "VolumeOptions") {
      r.object([&](std::string_view name) {
        if (name == "NoCopy") return r.value(m.no_copy);
        if (name == "Labels") return r.value(m.volume_labels);
        if (name == "Propagation") return r.value(m.propagation);
        if (name == "DriverConfig") {
          r.object([&](std::string_view part) {
            if (part == "Name") return r.value(m.volume_driver);
            if (part == "Options") return r.value(m.volume_options);
            r.fail("unknown member");
            return true;
          });
          return true;
        }
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    if (key == "TmpfsOptions") {
      r.object([&](std::string_view name) {
        if (name == "SizeBytes") return r.value(m.tmpfs_size.emplace());
        if (name == "Mode") return r.value(m.tmpfs_mode.emplace());
        if (name == "Options") return r.value(m.tmpfs_options);
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    r.fail("unknown member");
    return true;
  });
  return true;
}

void write_rates(JsonWriter& w, std::string_view name, std::string_view member,
                 const std::vector<Config::DeviceRate>& rates) {
  if (rates.empty()) return;
  w.array(name, [&] {
    for (const Config::DeviceRate& rate : rates) {
      w.object([&] {
        w.member("Path", rate.path);
        w.member(member, rate.rate);
      });
    }
  });
}

bool read_rates(JsonReader& r, std::vector<Config::DeviceRate>& rates) {
  r.array([&] {
    Config::DeviceRate& rate = rates.emplace_back();
    r.object([&](std::string_view key) {
      if (key == "Path") return r.value(rate.path);
      if (key == "Rate" || key == "Weight") return r.value(rate.rate);
      r.fail("unknown member");
      return true;
    });
  });
  return true;
}

/// {"80/tcp": {}} for a list.
void write_set(JsonWriter& w, std::string_view name, const std::vector<std::string>& keys) {
  if (keys.empty()) return;
  w.object(name, [&] {
    for (const std::string& key : keys) w.object(key, [] {});
  });
}
bool read_set(JsonReader& r, std::vector<std::string>& keys) {
  r.object([&](std::string_view key) {
    keys.emplace_back(key);
    r.skip();
    return true;
  });
  return true;
}

void write_ports(JsonWriter& w, const std::vector<PortRequest>& ports) {
  if (ports.empty()) return;
  std::map<std::string, std::vector<const PortRequest*>> by_port;
  for (const PortRequest& port : ports) {
    by_port[fmt::format("{}/{}", port.container_port, port.protocol)].push_back(&port);
  }
  w.object("PortBindings", [&] {
    for (const auto& entry : by_port) {
      w.array(entry.first, [&] {
        for (const PortRequest* const port : entry.second) {
          w.object([&] {
            w.member("HostIp", port->host_ip);
            std::string host;
            if (port->host_port != 0) host = fmt::format("{}", port->host_port);
            // Docker keeps a choice of ports in the same form.
            if (port->host_port_last > port->host_port) host += fmt::format("-{}", port->host_port_last);
            w.member("HostPort", host);
          });
        }
      });
    }
  });
}

bool read_ports(JsonReader& r, std::vector<PortRequest>& ports) {
  r.object([&](std::string_view key) {
    const size_t slash = key.find('/');
    const auto number = parse_int(key.substr(0, slash), 1, 65535);
    if (!number.ok()) {
      r.fail("expected a port such as 80/tcp");
      return true;
    }
    PortRequest base;
    base.container_port = static_cast<uint16_t>(*number);
    if (slash != std::string_view::npos) base.protocol = std::string(key.substr(slash + 1));
    r.array([&] {
      PortRequest port = base;
      r.object([&](std::string_view name) {
        if (name == "HostIp") return r.value(port.host_ip);
        if (name == "HostPort") {
          std::string text;
          r.value(text);
          if (!text.empty()) {
            const size_t dash = text.find('-');
            const auto first = parse_int(std::string_view(text).substr(0, dash), 0, 65535);
            const auto last =
                dash == std::string::npos ? first : parse_int(std::string_view(text).substr(dash + 1), 0, 65535);
            if (first.ok() && last.ok()) {
              port.host_port = static_cast<uint16_t>(*first);
              if (dash != std::string::npos) port.host_port_last = static_cast<uint16_t>(*last);
            } else {
              r.fail("expected a port, or two with a dash");
            }
          }
          return true;
        }
        r.fail("unknown member");
        return true;
      });
      ports.push_back(std::move(port));
    });
    return true;
  });
  return true;
}

void write_host_config(JsonWriter& w, const Config& c) {
  w.object("HostConfig", [&] {
    if (!c.mounts.empty()) {
      w.array("Mounts", [&] {
        for (const MountRequest& m : c.mounts) write_mount(w, m);
      });
    }
    w.member_opt("VolumesFrom", c.volumes_from);
    w.member("NetworkMode", c.network);
    write_ports(w, c.ports);
    w.member_opt("PublishAllPorts", c.publish_all);
    w.object("RestartPolicy", [&] {
      w.member("Name", c.restart.name);
      w.member("MaximumRetryCount", c.restart.maximum_retries);
    });
    w.member_opt("AutoRemove", c.auto_remove);
    w.object("LogConfig", [&] {
      w.member("Type", c.log_driver);
      w.member("Config", c.log_options);
    });
    w.member_opt("Privileged", c.privileged);
    w.member_opt("ReadonlyRootfs", c.read_only_rootfs);
    w.member_opt("Init", c.init);
    w.member_opt("CapAdd", c.cap_add);
    w.member_opt("CapDrop", c.cap_drop);
    w.member_opt("SecurityOpt", c.security_opt);
    w.member_opt("GroupAdd", c.groups_add);
    w.member_opt("Annotations", c.annotations);
    w.member_opt("Dns", c.dns);
    w.member_opt("DnsSearch", c.dns_search);
    w.member_opt("DnsOptions", c.dns_options);
    w.member_opt("ExtraHosts", c.extra_hosts);
    w.member_opt("Links", c.links);
    w.member_opt("IpcMode", c.ipc_mode);
    w.member_opt("PidMode", c.pid_mode);
    w.member_opt("UTSMode", c.uts_mode);
    w.member_opt("UsernsMode", c.userns_mode);
    w.member_opt("CgroupnsMode", c.cgroupns_mode);
    w.member_opt("CgroupParent", c.cgroup_parent);
    w.member("ShmSize", c.shm_size);
    w.member_opt("Sysctls", c.sysctls);
    w.member_opt("Runtime", c.runtime);
    w.member("Isolation", c.isolation == Isolation::kVm ? "vm" : "");
    w.member_opt("Hypervisor", c.hypervisor);
    w.member_opt("StorageOpt", c.storage_opt);
    w.member_opt("Memory", c.memory);
    w.member_opt("MemorySwap", c.memory_swap);
    w.member_opt("MemoryReservation", c.memory_reservation);
    w.member_opt("KernelMemory", c.kernel_memory);
    w.member_opt("MemorySwappiness", c.memory_swappiness);
    w.member_opt("OomKillDisable", c.oom_kill_disable);
    w.member_opt("OomScoreAdj", c.oom_score_adj);
    w.member_opt("NanoCpus", c.nano_cpus);
    w.member_opt("CpuShares", c.cpu_shares);
    w.member_opt("CpuPeriod", c.cpu_period);
    w.member_opt("CpuQuota", c.cpu_quota);
    w.member_opt("CpuRealtimePeriod", c.cpu_rt_period);
    w.member_opt("CpuRealtimeRuntime", c.cpu_rt_runtime);
    w.member_opt("CpusetCpus", c.cpuset_cpus);
    w.member_opt("CpusetMems", c.cpuset_mems);
    w.member_opt("PidsLimit", c.pids_limit);
    w.member_opt("BlkioWeight", c.blkio_weight);
    write_rates(w, "BlkioWeightDevice", "Weight", c.blkio_weight_device);
    write_rates(w, "BlkioDeviceReadBps", "Rate", c.device_read_bps);
    write_rates(w, "BlkioDeviceWriteBps", "Rate", c.device_write_bps);
    write_rates(w, "BlkioDeviceReadIOps", "Rate", c.device_read_iops);
    write_rates(w, "BlkioDeviceWriteIOps", "Rate", c.device_write_iops);
    if (!c.devices.empty()) {
      w.array("Devices", [&] {
        for (const DeviceMapping& d : c.devices) {
          w.object([&] {
            w.member("PathOnHost", d.host_path);
            w.member("PathInContainer", d.container_path);
            w.member("CgroupPermissions", d.permissions);
          });
        }
      });
    }
    w.member_opt("DeviceCgroupRules", c.device_cgroup_rules);
    if (!c.ulimits.empty()) {
      w.array("Ulimits", [&] {
        for (const Ulimit& u : c.ulimits) {
          w.object([&] {
            w.member("Name", u.name);
            w.member("Soft", u.soft);
            w.member("Hard", u.hard);
          });
        }
      });
    }
  });
}

void write_networks(JsonWriter& w, const std::vector<NetworkAttachment>& networks) {
  w.object("NetworkingConfig", [&] {
    w.object("EndpointsConfig", [&] {
      for (const NetworkAttachment& one : networks) {
        w.object(one.network, [&] {
          if (!one.ipv4.empty() || !one.ipv6.empty()) {
            w.object("IPAMConfig", [&] {
              w.member_opt("IPv4Address", one.ipv4);
              w.member_opt("IPv6Address", one.ipv6);
            });
          }
          w.member_opt("Links", one.links);
          w.member_opt("Aliases", one.aliases);
          w.member_opt("MacAddress", one.mac_address);
          w.member_opt("DriverOpts", one.driver_options);
          w.member_opt("GwPriority", one.gateway_priority);
        });
      }
    });
  });
}

bool read_networks(JsonReader& r, std::vector<NetworkAttachment>& networks) {
  r.object([&](std::string_view network) {
    NetworkAttachment one;
    one.network = network;
    r.object([&](std::string_view key) {
      if (key == "IPAMConfig") {
        r.object([&](std::string_view name) {
          if (name == "IPv4Address") return r.value(one.ipv4);
          if (name == "IPv6Address") return r.value(one.ipv6);
          r.fail("unknown member");
          return true;
        });
        return true;
      }
      if (key == "Links") return r.value(one.links);
      if (key == "Aliases") return r.value(one.aliases);
      if (key == "MacAddress") return r.value(one.mac_address);
      if (key == "DriverOpts") return r.value(one.driver_options);
      if (key == "GwPriority") return r.value(one.gateway_priority);
      r.fail("unknown member");
      return true;
    });
    networks.push_back(std::move(one));
    return true;
  });
  return true;
}

bool read_host_config(JsonReader& r, Config& c) {
  r.object([&](std::string_view key) {
    if (key == "Mounts") {
      r.array([&] { read_mount(r, c.mounts.emplace_back()); });
      return true;
    }
    if (key == "VolumesFrom") return r.value(c.volumes_from);
    if (key == "NetworkMode") return r.value(c.network);
    if (key == "PortBindings") return read_ports(r, c.ports);
    if (key == "PublishAllPorts") return r.value(c.publish_all);
    if (key == "RestartPolicy") {
      r.object([&](std::string_view name) {
        if (name == "Name") return r.value(c.restart.name);
        if (name == "MaximumRetryCount") return r.value(c.restart.maximum_retries);
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    if (key == "AutoRemove") return r.value(c.auto_remove);
    if (key == "LogConfig") {
      r.object([&](std::string_view name) {
        if (name == "Type") return r.value(c.log_driver);
        if (name == "Config") return r.value(c.log_options);
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    if (key == "Privileged") return r.value(c.privileged);
    if (key == "ReadonlyRootfs") return r.value(c.read_only_rootfs);
    if (key == "Init") return r.value(c.init);
    if (key == "CapAdd") return r.value(c.cap_add);
    if (key == "CapDrop") return r.value(c.cap_drop);
    if (key == "SecurityOpt") return r.value(c.security_opt);
    if (key == "GroupAdd") return r.value(c.groups_add);
    if (key == "Annotations") return r.value(c.annotations);
    if (key == "Dns") return r.value(c.dns);
    if (key == "DnsSearch") return r.value(c.dns_search);
    if (key == "DnsOptions") return r.value(c.dns_options);
    if (key == "ExtraHosts") return r.value(c.extra_hosts);
    if (key == "Links") return r.value(c.links);
    if (key == "IpcMode") return r.value(c.ipc_mode);
    if (key == "PidMode") return r.value(c.pid_mode);
    if (key == "UTSMode") return r.value(c.uts_mode);
    if (key == "UsernsMode") return r.value(c.userns_mode);
    if (key == "CgroupnsMode") return r.value(c.cgroupns_mode);
    if (key == "CgroupParent") return r.value(c.cgroup_parent);
    if (key == "ShmSize") return r.value(c.shm_size);
    if (key == "Sysctls") return r.value(c.sysctls);
    if (key == "Runtime") return r.value(c.runtime);
    if (key == "Isolation") {
      std::string text;
      r.value(text);
      if (text == "vm")
        c.isolation = Isolation::kVm;
      else if (!text.empty() && text != "default" && text != "container")
        r.fail("expected container or vm");
      return true;
    }
    if (key == "Hypervisor") return r.value(c.hypervisor);
    if (key == "StorageOpt") return r.value(c.storage_opt);
    if (key == "Memory") return r.value(c.memory);
    if (key == "MemorySwap") return r.value(c.memory_swap);
    if (key == "MemoryReservation") return r.value(c.memory_reservation);
    if (key == "KernelMemory") return r.value(c.kernel_memory);
    if (key == "MemorySwappiness") return r.value(c.memory_swappiness.emplace());
    if (key == "OomKillDisable") return r.value(c.oom_kill_disable);
    if (key == "OomScoreAdj") return r.value(c.oom_score_adj.emplace());
    if (key == "NanoCpus") return r.value(c.nano_cpus);
    if (key == "CpuShares") return r.value(c.cpu_shares);
    if (key == "CpuPeriod") return r.value(c.cpu_period);
    if (key == "CpuQuota") return r.value(c.cpu_quota);
    if (key == "CpuRealtimePeriod") return r.value(c.cpu_rt_period);
    if (key == "CpuRealtimeRuntime") return r.value(c.cpu_rt_runtime);
    if (key == "CpusetCpus") return r.value(c.cpuset_cpus);
    if (key == "CpusetMems") return r.value(c.cpuset_mems);
    if (key == "PidsLimit") return r.value(c.pids_limit);
    if (key == "BlkioWeight") return r.value(c.blkio_weight);
    if (key == "BlkioWeightDevice") return read_rates(r, c.blkio_weight_device);
    if (key == "BlkioDeviceReadBps") return read_rates(r, c.device_read_bps);
    if (key == "BlkioDeviceWriteBps") return read_rates(r, c.device_write_bps);
    if (key == "BlkioDeviceReadIOps") return read_rates(r, c.device_read_iops);
    if (key == "BlkioDeviceWriteIOps") return read_rates(r, c.device_write_iops);
    if (key == "Devices") {
      r.array([&] {
        DeviceMapping& d = c.devices.emplace_back();
        r.object([&](std::string_view name) {
          if (name == "PathOnHost") return r.value(d.host_path);
          if (name == "PathInContainer") return r.value(d.container_path);
          if (name == "CgroupPermissions") return r.value(d.permissions);
          r.fail("unknown member");
          return true;
        });
      });
      return true;
    }
    if (key == "DeviceCgroupRules") return r.value(c.device_cgroup_rules);
    if (key == "Ulimits") {
      r.array([&] {
        Ulimit& u = c.ulimits.emplace_back();
        r.object([&](std::string_view name) {
          if (name == "Name") return r.value(u.name);
          if (name == "Soft") return r.value(u.soft);
          if (name == "Hard") return r.value(u.hard);
          r.fail("unknown member");
          return true;
        });
      });
      return true;
    }
    r.fail("unknown member");
    return true;
  });
  return true;
}

}  // namespace

std::string to_json(const Config& c) {
  JsonWriter w;
  w.object([&] {
    w.member("Image", c.image);
    w.member_opt("Cmd", c.cmd);
    if (c.entrypoint) w.member("Entrypoint", *c.entrypoint);
    w.member_opt("Env", c.env);
    w.member_opt("WorkingDir", c.working_dir);
    w.member_opt("User", c.user);
    w.member_opt("Labels", c.labels);
    w.member_opt("StopSignal", c.stop_signal);
    if (c.stop_timeout_s) w.member("StopTimeout", *c.stop_timeout_s);
    write_health(w, c);
    w.member("Tty", c.tty);
    w.member("OpenStdin", c.open_stdin);
    w.member_opt("StdinOnce", c.stdin_once);
    w.member("AttachStdin", c.attach_stdin);
    w.member("AttachStdout", c.attach_stdout);
    w.member("AttachStderr", c.attach_stderr);
    w.member_opt("Hostname", c.hostname);
    w.member_opt("Domainname", c.domainname);
    w.member_opt("MacAddress", c.mac_address);
    write_set(w, "ExposedPorts", c.exposed_ports);
    w.member_opt("Name", c.name);
    w.member_opt("Platform", c.platform);
    if (!c.ip.empty() || !c.ip6.empty() || !c.network_aliases.empty()) {
      w.object("EndpointConfig", [&] {
        w.member_opt("IPv4Address", c.ip);
        w.member_opt("IPv6Address", c.ip6);
        w.member_opt("Aliases", c.network_aliases);
      });
    }
    if (!c.networks.empty()) write_networks(w, c.networks);
    write_host_config(w, c);
  });
  return std::move(w).take();
}

Result<Config> parse_config(std::string_view json) {
  Config c;
  JsonReader r(json);
  r.object([&](std::string_view key) {
    if (key == "Image") return r.value(c.image);
    if (key == "Cmd") return r.value(c.cmd);
    if (key == "Entrypoint") return r.value(c.entrypoint.emplace());
    if (key == "Env") return r.value(c.env);
    if (key == "WorkingDir") return r.value(c.working_dir);
    if (key == "User") return r.value(c.user);
    if (key == "Labels") return r.value(c.labels);
    if (key == "StopSignal") return r.value(c.stop_signal);
    if (key == "StopTimeout") return r.value(c.stop_timeout_s.emplace());
    if (key == "Healthcheck") return read_health(r, c);
    if (key == "Tty") return r.value(c.tty);
    if (key == "OpenStdin") return r.value(c.open_stdin);
    if (key == "StdinOnce") return r.value(c.stdin_once);
    if (key == "AttachStdin") return r.value(c.attach_stdin);
    if (key == "AttachStdout") return r.value(c.attach_stdout);
    if (key == "AttachStderr") return r.value(c.attach_stderr);
    if (key == "Hostname") return r.value(c.hostname);
    if (key == "Domainname") return r.value(c.domainname);
    if (key == "MacAddress") return r.value(c.mac_address);
    if (key == "ExposedPorts") return read_set(r, c.exposed_ports);
    if (key == "Name") return r.value(c.name);
    if (key == "Platform") return r.value(c.platform);
    if (key == "EndpointConfig") {
      r.object([&](std::string_view name) {
        if (name == "IPv4Address") return r.value(c.ip);
        if (name == "IPv6Address") return r.value(c.ip6);
        if (name == "Aliases") return r.value(c.network_aliases);
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    if (key == "NetworkingConfig") {
      r.object([&](std::string_view name) {
        if (name == "EndpointsConfig") return read_networks(r, c.networks);
        r.fail("unknown member");
        return true;
      });
      return true;
    }
    if (key == "HostConfig") return read_host_config(r, c);
    r.fail("unknown member");
    return true;
  });
  TRY(r.finish().context("workload configuration"));
  return c;
}

}  // namespace hull::engine
