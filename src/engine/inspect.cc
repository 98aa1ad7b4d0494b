#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/health.h"
#include "engine/merge.h"
#include "oci/json_writer.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

using oci::JsonWriter;

TimePoint time_of(int64_t ns) {
  return TimePoint(std::chrono::duration_cast<TimePoint::duration>(std::chrono::nanoseconds(ns)));
}

/// Go prints the zero time so.
std::string time_text(int64_t ns) { return ns == 0 ? "0001-01-01T00:00:00Z" : format_rfc3339(time_of(ns)); }

void null_or(JsonWriter& w, std::string_view name, const std::vector<std::string>& list) { w.member(name, list); }

void write_state(JsonWriter& w, const RunState& state, const std::optional<HealthRecord>& health) {
  w.object("State", [&] {
    const bool running = is_live(state.status);
    w.member("Status", to_string(state.status));
    w.member("Running", running);
    w.member("Paused", state.status == Status::kPaused);
    w.member("Restarting", state.status == Status::kRestarting);
    w.member("OOMKilled", state.exit && state.exit->oom_killed && !running);
    w.member("Dead", state.status == Status::kDead);
    w.member("Pid", state.pid);
    w.member("ExitCode", state.exit && state.pid == 0 ? state.exit->code : 0);
    w.member("Error", state.exit && !running ? state.exit->error : std::string());
    w.member("StartedAt", time_text(state.started_ns));
    w.member("FinishedAt", time_text(state.exit ? state.exit->finished_ns : 0));
    if (health) write_health_record(w, *health);
  });
}

void write_mounts(JsonWriter& w, const Config& c, const Paths& paths) {
  w.array("Mounts", [&] {
    for (const MountRequest& m : c.mounts) {
      w.object([&] {
        switch (m.type) {
          case MountRequest::Type::kBind:
            w.member("Type", "bind");
            w.member("Source", m.source);
            break;
          case MountRequest::Type::kVolume:
            w.member("Type", "volume");
            w.member("Name", m.source);
            w.member("Source", paths.volumes() + "/" + m.source + "/_data");
            break;
          case MountRequest::Type::kTmpfs:
            w.member("Type", "tmpfs");
            break;
        }
        w.member("Destination", m.target);
        if (m.type == MountRequest::Type::kVolume) w.member("Driver", "local");
        w.member("Mode", m.read_only ? "ro" : "");
        w.member("RW", !m.read_only);
        w.member("Propagation",
                 m.type == MountRequest::Type::kBind && m.propagation.empty() ? "rprivate" : m.propagation);
      });
    }
  });
}

void write_config(JsonWriter& w, const Config& c) {
  w.object("Config", [&] {
    w.member("Hostname", c.hostname);
    w.member("Domainname", c.domainname);
    w.member("User", c.user);
    w.member("AttachStdin", c.attach_stdin);
    w.member("AttachStdout", c.attach_stdout);
    w.member("AttachStderr", c.attach_stderr);
    if (!c.exposed_ports.empty()) {
      w.object("ExposedPorts", [&] {
        for (const std::string& port : c.exposed_ports) w.object(port, [] {});
      });
    }
    w.member("Tty", c.tty);
    w.member("OpenStdin", c.open_stdin);
    w.member("StdinOnce", c.stdin_once || (c.open_stdin && c.attach_stdin));
    null_or(w, "Env", merge_environment({std::string(kDefaultPath)}, c.env));
    null_or(w, "Cmd", c.cmd);
    w.member("Image", c.image);
    std::vector<std::string> volumes;
    for (const MountRequest& m : c.mounts) {
      if (m.type == MountRequest::Type::kVolume && m.volume_labels.contains("com.docker.volume.anonymous")) {
        volumes.push_back(m.target);
      }
    }
    w.object("Volumes", [&] {
      for (const std::string& target : volumes) w.object(target, [] {});
    });
    w.member("WorkingDir", c.working_dir);
    w.member("Entrypoint", c.entrypoint.value_or(std::vector<std::string>()));
    w.member("Labels", c.labels);
    if (!c.stop_signal.empty()) w.member("StopSignal", c.stop_signal);
    if (c.stop_timeout_s) w.member("StopTimeout", *c.stop_timeout_s);
  });
}

void write_ports(JsonWriter& w, const Config& c, const std::vector<PublishedPort>& ports) {
  w.object("Ports", [&] {
    std::map<std::string, std::vector<const PublishedPort*>> by_port;
    for (const std::string& port : c.exposed_ports) by_port[port.find('/') == std::string::npos ? port + "/tcp" : port];
    for (const PublishedPort& port : ports) {
      by_port[fmt::format("{}/{}", port.container_port, port.protocol)].push_back(&port);
    }
    for (const auto& entry : by_port) {
      w.array(entry.first, [&] {
        for (const PublishedPort* const port : entry.second) {
          w.object([&] {
            w.member("HostIp", port->host_ip);
            w.member("HostPort", fmt::format("{}", port->host_port));
          });
        }
      });
    }
  });
}

void write_addresses(JsonWriter& w, const net::Endpoint* e) {
  const bool routed = e != nullptr && e->leads_out;
  w.member("EndpointID", e != nullptr ? e->id : std::string());
  w.member("Gateway", routed && !e->gateway4.is_unspecified() ? e->gateway4.str() : std::string());
  w.member("GlobalIPv6Address", e != nullptr && e->ipv6 ? e->ipv6->str() : std::string());
  w.member("GlobalIPv6PrefixLen", e != nullptr && e->ipv6 ? e->prefix6 : 0U);
  w.member("IPAddress", e != nullptr ? e->ipv4.str() : std::string());
  w.member("IPPrefixLen", e != nullptr ? e->prefix4 : 0U);
  w.member("IPv6Gateway", routed && e->gateway6 ? e->gateway6->str() : std::string());
  w.member("MacAddress", e != nullptr ? e->mac.str() : std::string());
}

/// What Go's encoder prints as null. Written as a text that nobody can have put into a document, for it holds the
/// workload's id, and replaced in the whole.
std::string null_mark(const WorkloadRow& row) { return "null of " + row.id; }

std::string with_nulls(std::string json, const WorkloadRow& row) {
  const std::string mark = "\"" + null_mark(row) + "\"";
  for (size_t at = json.find(mark); at != std::string::npos; at = json.find(mark, at)) {
    json.replace(at, mark.size(), "null");
  }
  return json;
}

template <typename T>
void member_or_null(JsonWriter& w, const WorkloadRow& row, std::string_view key, const T& value) {
  if (value.empty()) {
    w.member(key, null_mark(row));
  } else {
    w.member(key, value);
  }
}

/// One of a workload's networks, as Docker's EndpointSettings.
void write_attachment(JsonWriter& w, const NetworkAttachment& one, const net::Endpoint* e, const std::string& id,
                      const WorkloadRow& row, const std::string& hostname) {
  w.object(one.network, [&] {
    if (one.ipv4.empty() && one.ipv6.empty()) {
      w.member("IPAMConfig", null_mark(row));
    } else {
      w.object("IPAMConfig", [&] {
        w.member_opt("IPv4Address", one.ipv4);
        w.member_opt("IPv6Address", one.ipv6);
      });
    }
    member_or_null(w, row, "Links", one.links);
    member_or_null(w, row, "Aliases", one.aliases);
    member_or_null(w, row, "DriverOpts", one.driver_options);
    w.member("GwPriority", one.gateway_priority);
    w.member("NetworkID", id);
    write_addresses(w, e);
    std::vector<std::string> names;
    if (has_own_networks(one.network) && one.network != net::kDefaultNetwork) {
      const auto add = [&](const std::string& name) {
        if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      };
      add(row.name);
      for (const std::string& alias : one.aliases) add(alias);
      add(row.id.substr(0, 12));
      add(hostname);
    }
    member_or_null(w, row, "DNSNames", names);
  });
}

}  // namespace

Result<WorkloadDetails> EngineImpl::inspect(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string config_json, names->config(row.id));
  WorkloadDetails out;
  TRY_ASSIGN(out.config, parse_config(config_json));
  const Config& c = out.config;
  out.summary = summary_of(row, state);
  out.started = time_of(state.started_ns);
  if (state.exit) {
    out.finished = time_of(state.exit->finished_ns);
    out.oom_killed = state.exit->oom_killed;
    out.error = state.exit->error;
  }
  out.bundle = paths_.workload(row.id);
  if (const auto log = log_config(c, log_defaults()); log.ok()) out.log_path = log_path(row.id, log->driver);
  const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
  std::optional<HealthRecord> health;
  if (c.has_health_check()) health = read_health_record(paths_, row.id, is_live(state.status));
  std::vector<net::Endpoint> endpoints;
  std::map<std::string, std::string> network_ids;
  if (running && has_own_networks(c.network)) {
    TRY_ASSIGN(net::NetworkManager* const manager, network());
    TRY_ASSIGN(endpoints, manager->find(row.id));
  }
  const bool on_none = row.network.empty() && endpoints.empty();  // disconnected from all
  const std::vector<NetworkAttachment> wanted = on_none ? std::vector<NetworkAttachment>() : attachments(c);
  for (const NetworkAttachment& one : wanted) {
    if (one.network == net::kDefaultNetwork) {
      network_ids[one.network] = net::default_network_id(one.network);
    } else {
      TRY_ASSIGN(net::NetworkManager* const manager, network());
      const auto found = manager->inspect(one.network);
      network_ids[one.network] = found.ok() ? found->id : std::string();
    }
  }
  const auto endpoint_on = [&](std::string_view name) -> const net::Endpoint* {
    for (const net::Endpoint& one : endpoints) {
      if (one.network == name) return &one;
    }
    return nullptr;
  };
  std::vector<std::string> lower;
  if (auto image = images_->find(row.image_id); image.ok()) lower = images_->lower_dirs(*image).value_or({});

  const std::vector<std::string> command = full_command(c);
  // Host configuration as it was asked for: the stored form has Docker's HostConfig as its last member.
  const size_t host_config_at = config_json.find("\"HostConfig\":");
  JsonWriter w;
  w.object([&] {
    w.member("Id", row.id);
    w.member("Created", time_text(row.created_ns));
    w.member("Path", command.empty() ? "" : command.front());
    w.member("Args", command.empty() ? command : std::vector<std::string>(command.begin() + 1, command.end()));
    write_state(w, state, health);
    w.member("Image", row.image_id);
    w.member("ResolvConfPath", out.bundle + "/resolv.conf");
    w.member("HostnamePath", out.bundle + "/hostname");
    w.member("HostsPath", out.bundle + "/hosts");
    w.member("LogPath", out.log_path);
    w.member("Name", "/" + row.name);
    w.member("RestartCount", restart_count(paths_, row.id));
    w.member("Driver", "overlay2");
    w.member("Platform", "linux");
    w.member("Isolation", c.isolation == Isolation::kVm ? "vm" : "container");
    w.member("AppArmorProfile", "");
    w.object("GraphDriver", [&] {
      w.member("Name", "overlay2");
      w.object("Data", [&] {
        std::string joined;
        for (const std::string& folder : lower) joined += (joined.empty() ? "" : ":") + folder;
        w.member("LowerDir", joined);
        w.member("UpperDir", out.bundle + "/upper");
        w.member("WorkDir", out.bundle + "/work");
      });
    });
    write_mounts(w, c, paths_);
    write_config(w, c);
    w.object("NetworkSettings", [&] {
      w.member("Bridge", "");
      w.member("SandboxID", running ? row.id : std::string());
      w.member("SandboxKey", running ? fmt::format("/proc/{}/ns/net", state.pid) : std::string());
      write_ports(w, c, out.summary.ports);
      w.member("HairpinMode", false);
      w.member("LinkLocalIPv6Address", "");
      w.member("LinkLocalIPv6PrefixLen", 0);
      for (const char* const unused : {"SecondaryIPAddresses", "SecondaryIPv6Addresses"}) {
        w.member(unused, null_mark(row));
      }
      write_addresses(w, endpoint_on(net::kDefaultNetwork));
      w.object("Networks", [&] {
        for (const NetworkAttachment& one : wanted) {
          // A workload that was taken off all its networks is on none until it starts again.
          if (running && endpoint_on(one.network) == nullptr) continue;
          write_attachment(w, one, endpoint_on(one.network), network_ids[one.network], row, c.hostname);
        }
        if (c.network == "host" || c.network == "none") {
          NetworkAttachment mode;
          mode.network = c.network;
          write_attachment(w, mode, nullptr, net::default_network_id(c.network), row, {});
        }
      });
    });
  });
  out.json = with_nulls(std::move(w).take(), row);
  if (host_config_at != std::string::npos && out.json.ends_with('}')) {
    // "HostConfig":{...} } of the stored document closes ours.
    out.json.back() = ',';
    out.json += config_json.substr(host_config_at);
  }
  return out;
}

}  // namespace hull::engine
