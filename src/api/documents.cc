#include "api/documents.h"

#include <cerrno>
#include <cstring>

#include "api/json.h"
#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/units.h"
#include "engine/health.h"
#include "engine/mount_lines.h"
#include "engine/paths.h"

namespace hull::api {
namespace {

using engine::ContainerStats;

void write_cpu(JsonWriter& w, std::string_view name, const ContainerStats& s) {
  w.object(name, [&] {
    w.object("cpu_usage", [&] {
      w.member("total_usage", s.cpu_total_ns);
      w.member("usage_in_kernelmode", 0);
      w.member("usage_in_usermode", 0);
    });
    if (s.system_cpu_ns != 0) w.member("system_cpu_usage", s.system_cpu_ns);
    if (s.online_cpus != 0) w.member("online_cpus", s.online_cpus);
    w.object("throttling_data", [&] {
      w.member("periods", 0);
      w.member("throttled_periods", 0);
      w.member("throttled_time", 0);
    });
  });
}

void write_direction(JsonWriter& w, std::string_view prefix, const engine::LinkStats::Direction& counted) {
  for (const auto& [name, value] : {std::pair("bytes", counted.bytes), std::pair("packets", counted.packets),
                                    std::pair("errors", counted.errors), std::pair("dropped", counted.dropped)}) {
    w.member(fmt::format("{}_{}", prefix, name), value);
  }
}

constexpr std::string_view kNoTime = "0001-01-01T00:00:00Z";

std::string time_text(engine::TimePoint when) {
  return when == engine::TimePoint() ? std::string(kNoTime) : format_rfc3339(when);
}

}  // namespace

int64_t unix_seconds(engine::TimePoint when) {
  return std::chrono::duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
}

int64_t failing_streak(const engine::Settings& settings, const engine::WorkloadSummary& one) {
  // A check that succeeded ends the streak.
  if (one.health.empty() || one.health == "healthy") return 0;
  const engine::Paths paths{settings.data_root, settings.run_root};
  const auto record = engine::read_health_record(paths, one.id, one.pid != 0);
  return record ? record->failing_streak : 0;
}

void write_container(JsonWriter& w, const engine::WorkloadSummary& one, const ContainerExtras& extras) {
  w.object([&] {
    w.member("Id", one.id);
    w.member("Names", std::vector<std::string>{"/" + one.name});
    w.member("Image", one.image);
    w.member("ImageID", one.image_id.str());
    w.member("Command", one.command);
    w.member("Created", unix_seconds(one.created));
    w.array("Ports", [&] {
      for (const engine::PublishedPort& port : one.ports) {
        w.object([&] {
          w.member_opt("IP", port.host_ip);
          w.member("PrivatePort", port.container_port);
          w.member_opt("PublicPort", port.host_port);
          w.member("Type", port.protocol);
        });
      }
    });
    if (extras.disk) {
      w.member_opt("SizeRw", *extras.disk);
      w.member("SizeRootFs", *extras.disk);
    }
    w.member("Labels", one.labels);
    w.member("State", to_string(one.status));
    w.member("Status", one.status_text);
    if (extras.failing_streak) {
      w.object("Health", [&] {
        w.member("Status", one.health.empty() ? std::string("none") : one.health);
        w.member("FailingStreak", *extras.failing_streak);
      });
    }
    w.object("HostConfig", [&] {
      w.member("NetworkMode", one.network);
      if (one.isolation == engine::Isolation::kVm) w.member("Isolation", to_string(one.isolation));
    });
    w.object("NetworkSettings", [&] {
      w.object("Networks", [&] {
        if (!one.network.empty() && !one.network.starts_with("container:")) w.object(one.network, [] {});
      });
    });
    w.array("Mounts", [&] {
      for (const std::string& line : one.mounts) {
        const engine::MountLine mount = engine::read_mount_line(line);
        const bool bind = mount.source.starts_with('/');
        w.object([&] {
          w.member("Type", bind ? "bind" : "volume");
          if (!bind) w.member("Name", mount.source);
          w.member("Source", bind ? mount.source : std::string());
          w.member("Destination", mount.target);
          if (!bind) w.member("Driver", "local");
          w.member("Mode", mount.read_only ? "ro" : "");
          w.member("RW", !mount.read_only);
          w.member("Propagation", bind ? "rprivate" : "");
        });
      }
    });
  });
}

void write_volume(JsonWriter& w, const engine::Volume& volume) {
  w.object([&] {
    w.member("CreatedAt", format_rfc3339(volume.created));
    w.member("Driver", volume.driver);
    w.member("Labels", volume.labels);
    w.member("Mountpoint", volume.mountpoint);
    w.member("Name", volume.name);
    w.member("Options", volume.options);
    w.member("Scope", volume.scope);
    if (volume.size) {
      w.object("UsageData", [&] {
        w.member("RefCount", volume.references);
        w.member("Size", *volume.size);
      });
    }
  });
}

std::string list_document(const std::vector<engine::WorkloadSummary>& workloads, engine::Engine* sizes,
                          const engine::Settings* health) {
  JsonWriter w;
  w.array([&] {
    for (const engine::WorkloadSummary& one : workloads) {
      ContainerExtras extras;
      if (sizes != nullptr) {
        const auto footprint = sizes->footprint(one.id);
        extras.disk = footprint.ok() ? footprint->disk : 0;
      }
      if (health != nullptr) extras.failing_streak = failing_streak(*health, one);
      write_container(w, one, extras);
    }
  });
  return std::move(w).take();
}

std::string stats_document(const ContainerStats& now, engine::TimePoint read, const ContainerStats& before,
                           engine::TimePoint read_before, const std::vector<engine::LinkStats>& links) {
  JsonWriter w;
  w.object([&] {
    w.member("name", "/" + now.name);
    w.member("id", now.id);
    w.member("os_type", "linux");
    w.member("read", time_text(read));
    w.member("preread", time_text(read_before));
    w.object("pids_stats", [&] {
      w.member_opt("current", now.pids);
      w.member_opt("limit", now.pids_limit);
    });
    w.object("blkio_stats", [&] {
      w.array("io_service_bytes_recursive", [&] {
        for (const auto& [op, value] : {std::pair("read", now.block_read), std::pair("write", now.block_write)}) {
          if (value == 0) continue;
          w.object([&, op = op, value = value] {
            w.member("major", 0);
            w.member("minor", 0);
            w.member("op", op);
            w.member("value", value);
          });
        }
      });
    });
    w.member("num_procs", 0);
    w.object("storage_stats", [] {});
    write_cpu(w, "cpu_stats", now);
    write_cpu(w, "precpu_stats", before);
    w.object("memory_stats", [&] {
      if (now.memory_limit == 0) return;
      // What clients subtract is subtracted already.
      w.member("usage", now.memory_used);
      w.member("limit", now.memory_limit);
      w.object("stats", [&] {
        w.member("cache", now.memory_cache);
        w.member("inactive_file", 0);
        w.member("total_inactive_file", 0);
      });
    });
    if (!links.empty()) {
      w.object("networks", [&] {
        for (const engine::LinkStats& link : links) {
          w.object(link.name, [&] {
            write_direction(w, "rx", link.received);
            write_direction(w, "tx", link.sent);
          });
        }
      });
    }
  });
  return std::move(w).take();
}

Result<std::string> without_secrets(std::string_view inspect) {
  TRY_ASSIGN(Json document, parse_json(inspect));
  for (auto& [name, section] : document.members) {
    if (name != "Config") continue;
    for (auto& [key, value] : section.members) {
      if (key == "Env") {
        for (Json& variable : value.items)
          variable.text.resize(std::min(variable.text.find('='), variable.text.size()));
      }
    }
  }
  return to_text(document);
}

ErrorKind start_kind(const Error& error) {
  return error.error_number() == ENOENT || error.error_number() == EACCES ? ErrorKind::kInvalid : error.kind();
}

std::string start_message(const Error& error) {
  std::string text = error.message();
  for (const auto& [ours, theirs] :
       {std::pair("Permission denied", "permission denied"), std::pair("No such file", "no such file"),
        std::pair("Is a directory", "is a directory")}) {
    if (const size_t at = text.find(ours); at != std::string::npos) text.replace(at, std::strlen(ours), theirs);
  }
  return text;
}

}  // namespace hull::api
