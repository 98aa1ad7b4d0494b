// What is used of this machine: metrics for Prometheus, `system df`.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "api/documents.h"
#include "api/json.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "api/shared_sizes.h"
#include "api/versions.h"
#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::api {
namespace {

using engine::ContainerStats;
using engine::Engine;

/// "MemTotal:  1234 kB" of /proc/meminfo, in bytes.
double memory_of(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  return at == std::string_view::npos ? 0 : std::strtod(text.data() + at + name.size(), nullptr) * 1024;
}

void add_host(Metrics& m) {
  double loads[3] = {0, 0, 0};
  if (::getloadavg(loads, 3) == 3) m.add("hull_host_load1", "gauge", "Load of the last minute", {}, loads[0]);
  m.add("hull_host_cpus", "gauge", "Processors", {}, static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN)));
  const std::string memory = sys::read_file("/proc/meminfo", 1 << 16).value_or("");
  m.add("hull_host_memory_bytes", "gauge", "Memory", {}, memory_of(memory, "MemTotal:"));
  m.add("hull_host_memory_available_bytes", "gauge", "Memory that can be had without swapping", {},
        memory_of(memory, "MemAvailable:"));
  for (const char* resource : {"cpu", "memory", "io"}) {
    const auto text = sys::read_file(fmt::format("/proc/pressure/{}", resource), 4096);
    if (text.ok()) add_pressure(m, "hull_host", resource, *text, {});
  }
}

/// The folder of a process's control group in the unified hierarchy; "" without one.
std::string unified_cgroup(int pid) {
  const std::string text = sys::read_file(fmt::format("/proc/{}/cgroup", pid), 1 << 16).value_or("");
  const size_t at = text.rfind("0::", std::string::npos);
  if (at == std::string::npos) return {};
  const std::string path = text.substr(at + 3, text.find('\n', at) - at - 3);
  for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    if (sys::exists(root + path + "/cpu.pressure")) return root + path;
  }
  return {};
}

void add_workload(Metrics& m, const engine::WorkloadSummary& one, const ContainerStats& s) {
  const Metrics::MetricLabels labels = {
      {"id", one.id}, {"name", one.name}, {"image", one.image}, {"isolation", to_string(one.isolation)}};
  const auto add = [&](std::string_view name, std::string_view type, std::string_view help, double value) {
    m.add(name, type, help, labels, value);
  };
  add("hull_workload_cpu_seconds_total", "counter", "Processor time", static_cast<double>(s.cpu_total_ns) / 1e9);
  add("hull_workload_memory_bytes", "gauge", "Memory without cache that can be dropped",
      static_cast<double>(s.memory_used));
  add("hull_workload_memory_cache_bytes", "gauge", "Page cache", static_cast<double>(s.memory_cache));
  add("hull_workload_memory_limit_bytes", "gauge", "Most memory that it may have", static_cast<double>(s.memory_limit));
  add("hull_workload_network_receive_bytes_total", "counter", "Bytes received", static_cast<double>(s.net_rx));
  add("hull_workload_network_transmit_bytes_total", "counter", "Bytes sent", static_cast<double>(s.net_tx));
  add("hull_workload_block_read_bytes_total", "counter", "Bytes read from disks", static_cast<double>(s.block_read));
  add("hull_workload_block_write_bytes_total", "counter", "Bytes written to disks", static_cast<double>(s.block_write));
  add("hull_workload_processes", "gauge", "Processes and threads", static_cast<double>(s.pids));
  const std::string cgroup = unified_cgroup(one.pid);
  if (cgroup.empty()) return;
  for (const char* resource : {"cpu", "memory", "io"}) {
    const auto text = sys::read_file(fmt::format("{}/{}.pressure", cgroup, resource), 4096);
    if (text.ok()) add_pressure(m, "hull_workload", resource, *text, labels);
  }
}

Result<void> metrics(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  engine::ListFilter all;
  all.all = true;
  TRY_ASSIGN(const std::vector<engine::WorkloadSummary> workloads, engine->list(all));
  Metrics m;
  std::map<std::string, int> states;
  for (const auto& one : workloads) {
    if (request.who().sees(one.labels)) ++states[std::string(to_string(one.status))];
  }
  for (const auto& [state, count] : states) {
    m.add("hull_workloads", "gauge", "Workloads by state", {{"state", state}}, count);
  }
  if (!request.who().scoped()) add_host(m);
  for (const auto& one : workloads) {
    if (one.pid == 0 || !request.who().sees(one.labels)) continue;
    const auto stats = engine->stats(one.id);
    if (stats.ok()) add_workload(m, one, *stats);  // else it ended meanwhile
  }
  response.text(200, "text/plain; version=0.0.4; charset=utf-8", m.text());
  return {};
}

/// One kind of things of `system df`: its items in the form of before 1.52, and what newer versions say of them all.
struct Usage {
  int64_t total = 0, active = 0;
  uint64_t bytes = 0, reclaimable = 0;
  std::string items = "[]";  // JSON
};

/// Documents that are texts already stand in a larger one as members.
class Members {
 public:
  void add(std::string_view name, const std::string& json) {
    text_ += fmt::format("{}\"{}\":{}", text_.empty() ? "" : ",", name, json);
  }
  void add(std::string_view name, const Usage& usage, bool verbose) {
    add(name, fmt::format(R"({{"ActiveCount":{},"TotalCount":{},"Reclaimable":{},"TotalSize":{}{}}})", usage.active,
                          usage.total, usage.reclaimable, usage.bytes, verbose ? ",\"Items\":" + usage.items : ""));
  }
  std::string text() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

uint64_t size_of(const std::vector<engine::DiskUsage::Item>& items, std::string_view id) {
  for (const auto& item : items) {
    if (item.id == id || item.name == id) return item.size;
  }
  return 0;
}

Result<Usage> image_usage(const Request& request, Engine& engine, const engine::DiskUsage& measured) {
  TRY_ASSIGN(const std::vector<store::ImageSummary> images, engine.images().list(true));
  std::map<std::string, uint64_t> shared;
  TRY_ASSIGN(shared, shared_sizes(engine.images()));
  Usage out;
  out.bytes = measured.images.layers_bytes;
  JsonWriter w;
  w.array([&] {
    for (const auto& one : images) {
      const uint64_t common = shared[one.id.str()];
      ++out.total;
      if (one.containers > 0) ++out.active;
      if (one.containers == 0) out.reclaimable += one.size - std::min(one.size, common);
      w.object([&] {
        w.member("Id", one.id.str());
        w.member("ParentId", "");
        w.member("RepoTags", one.tags);
        w.member("RepoDigests", one.digests);
        w.member("Created", unix_seconds(one.created));
        w.member("Size", one.size);
        if (!request.at_least(44)) w.member("VirtualSize", one.size);
        w.member("SharedSize", common);
        w.member("Containers", one.containers);
      });
    }
  });
  out.items = std::move(w).take();
  return out;
}

Result<Usage> container_usage(const Request& request, Engine& engine, const engine::DiskUsage& measured) {
  engine::ListFilter all;
  all.all = true;
  TRY_ASSIGN(const std::vector<engine::WorkloadSummary> workloads, engine.list(all));
  Usage out;
  JsonWriter w;
  w.array([&] {
    for (const auto& one : workloads) {
      ContainerExtras extras;
      extras.disk = size_of(measured.workloads, one.id);
      if (request.at_least(52)) extras.failing_streak = failing_streak(request.settings(), one);
      const bool active = one.status == engine::Status::kRunning || one.status == engine::Status::kPaused ||
                          one.status == engine::Status::kRestarting;
      ++out.total;
      out.bytes += *extras.disk;
      if (active) ++out.active;
      if (!active) out.reclaimable += *extras.disk;
      write_container(w, one, extras);
    }
  });
  out.items = std::move(w).take();
  return out;
}

Result<Usage> volume_usage(Engine& engine, const engine::DiskUsage& measured) {
  TRY_ASSIGN(std::vector<engine::Volume> volumes, engine.volume_list({}));
  Usage out;
  JsonWriter w;
  w.array([&] {
    for (engine::Volume& one : volumes) {
      one.size = size_of(measured.volumes, one.name);
      ++out.total;
      out.bytes += *one.size;
      if (one.references > 0) ++out.active;
      if (one.references == 0) out.reclaimable += *one.size;
      write_volume(w, one);
    }
  });
  out.items = std::move(w).take();
  return out;
}

Result<void> disk_usage(Request& request, Response& response) {
  TRY_ASSIGN(const std::vector<std::string> types, usage_types(request));
  const auto wanted = [&](std::string_view type) { return std::find(types.begin(), types.end(), type) != types.end(); };
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const engine::DiskUsage measured, engine->disk_usage());
  const bool newer = request.at_least(52);
  const bool verbose = newer && request.query_flag("verbose");
  // Clients that take the newest version without knowing it read the old members; who asks for `verbose` knows.
  const bool older = !verbose;
  Members out;
  const auto add = [&](std::string_view name, std::string_view items, const Usage& usage) {
    if (newer) out.add(name, usage, verbose);
    if (older) out.add(items, usage.items);
  };
  if (wanted("image")) {
    TRY_ASSIGN(const Usage usage, image_usage(request, *engine, measured));
    if (older) out.add("LayersSize", std::to_string(usage.bytes));
    add("ImageUsage", "Images", usage);
  }
  if (wanted("container")) {
    TRY_ASSIGN(const Usage usage, container_usage(request, *engine, measured));
    add("ContainerUsage", "Containers", usage);
  }
  if (wanted("volume")) {
    TRY_ASSIGN(const Usage usage, volume_usage(*engine, measured));
    add("VolumeUsage", "Volumes", usage);
  }
  if (wanted("build-cache")) add("BuildCacheUsage", "BuildCache", Usage());
  response.json(200, out.text());
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/metrics", .right = Right::kView, .handler = metrics, .scoped = true},
    {.method = "GET", .pattern = "/system/df", .right = Right::kView, .handler = disk_usage, .since_minor = 25},
};

}  // namespace

std::span<const Route> usage_routes() { return kRoutes; }

}  // namespace hull::api
