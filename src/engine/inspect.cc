#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
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

void write_state(JsonWriter& w, const RunState& state) {
  w.object("State", [&] {
    const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
    w.member("Status", to_string(state.status));
    w.member("Running", running);
    w.member("Paused", state.status == Status::kPaused);
    w.member("Restarting", false);
    w.member("OOMKilled", state.exit && state.exit->oom_killed && !running);
    w.member("Dead", state.status == Status::kDead);
    w.member("Pid", state.pid);
    w.member("ExitCode", state.exit && !running ? state.exit->code : 0);
    w.member("Error", state.exit && !running ? state.exit->error : std::string());
    w.member("StartedAt", time_text(state.started_ns));
    w.member("FinishedAt", time_text(state.exit ? state.exit->finished_ns : 0));
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
    w.member("StdinOnce", c.open_stdin && c.attach_stdin);
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

void write_endpoint(JsonWriter& w, const std::optional<net::Endpoint>& e) {
  w.member("IPAddress", e ? e->ipv4.str() : "");
  w.member("IPPrefixLen", e ? e->prefix4 : 0U);
  w.member("Gateway", e ? e->gateway4.str() : "");
  w.member("GlobalIPv6Address", e && e->ipv6 ? e->ipv6->str() : "");
  w.member("GlobalIPv6PrefixLen", e && e->ipv6 ? e->prefix6 : 0U);
  w.member("IPv6Gateway", e && e->gateway6 ? e->gateway6->str() : "");
  w.member("MacAddress", e ? e->mac.str() : "");
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
  if (c.log_driver != "none") out.log_path = out.bundle + "/" + row.id + "-json.log";
  const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
  std::optional<net::Endpoint> endpoint;
  if (running && row.network == "bridge") {
    TRY_ASSIGN(net::NetworkManager* const manager, network());
    auto found = manager->find(row.id);
    if (found.ok()) endpoint = std::move(*found);
  }
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
    write_state(w, state);
    w.member("Image", row.image_id);
    w.member("ResolvConfPath", out.bundle + "/resolv.conf");
    w.member("HostnamePath", out.bundle + "/hostname");
    w.member("HostsPath", out.bundle + "/hosts");
    w.member("LogPath", out.log_path);
    w.member("Name", "/" + row.name);
    w.member("RestartCount", 0);
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
      w.member("SandboxID", running ? row.id : std::string());
      w.member("SandboxKey", running ? fmt::format("/proc/{}/ns/net", state.pid) : std::string());
      write_ports(w, c, out.summary.ports);
      write_endpoint(w, endpoint);
      w.object("Networks", [&] {
        const std::string name = c.network.starts_with("container:") ? std::string() : c.network;
        if (name.empty()) return;
        w.object(name, [&] {
          w.member("Aliases", c.network_aliases);
          w.member("NetworkID", name);
          w.member("EndpointID", endpoint ? row.id : std::string());
          write_endpoint(w, endpoint);
        });
      });
    });
  });
  out.json = std::move(w).take();
  if (host_config_at != std::string::npos && out.json.ends_with('}')) {
    // "HostConfig":{...} } of the stored document closes ours.
    out.json.back() = ',';
    out.json += config_json.substr(host_config_at);
  }
  return out;
}

}  // namespace hull::engine
