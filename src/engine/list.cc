#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/filter.h"
#include "engine/health.h"
#include "engine/host.h"
#include "engine/mount_lines.h"
#include "engine/process.h"

namespace hull::engine {
namespace {

TimePoint time_of(int64_t ns) {
  return TimePoint(std::chrono::duration_cast<TimePoint::duration>(std::chrono::nanoseconds(ns)));
}

std::string age(int64_t since_ns) {
  return format_age(std::chrono::seconds(std::max<int64_t>(0, now_ns() - since_ns) / 1'000'000'000));
}

std::string status_text(const RunState& state) {
  switch (state.status) {
    case Status::kRunning:
      return "Up " + age(state.started_ns);
    case Status::kPaused:
      return "Up " + age(state.started_ns) + " (Paused)";
    case Status::kRestarting:
      return fmt::format("Restarting ({}) {} ago", state.exit ? state.exit->code : 0,
                         age(state.exit ? state.exit->finished_ns : 0));
    case Status::kExited:
      return fmt::format("Exited ({}) {} ago", state.exit ? state.exit->code : 0,
                         age(state.exit ? state.exit->finished_ns : 0));
    case Status::kDead:
      return "Dead";
    case Status::kRemoving:
      return "Removal In Progress";
    case Status::kCreated:
      return "Created";
  }
  return "";
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end != 0) lines.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::vector<PublishedPort> ports_of(std::string_view text) {
  std::vector<PublishedPort> ports;
  for (const std::string& line : lines_of(text)) {
    PublishedPort port;
    const size_t a = line.find(' '), b = line.find(' ', a + 1), c = line.find(' ', b + 1);
    if (c == std::string::npos) continue;
    port.host_ip = line.substr(0, a);
    port.host_port = static_cast<uint16_t>(parse_int(line.substr(a + 1, b - a - 1), 0, 65535).value_or(0));
    port.container_port = static_cast<uint16_t>(parse_int(line.substr(b + 1, c - b - 1), 0, 65535).value_or(0));
    port.protocol = line.substr(c + 1);
    ports.push_back(std::move(port));
  }
  return ports;
}

bool is_on(const WorkloadRow& row, std::string_view name) {
  std::string_view rest = row.network;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (rest.substr(0, comma) == name) return true;
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return false;
}

}  // namespace

Result<int64_t> moment_of(const std::string& text) {
  if (const auto seconds = parse_int(text, 0, 9'000'000'000); seconds.ok()) return *seconds * 1'000'000'000;
  if (const auto ago = parse_duration(text); ago.ok()) return now_ns() - ago->count();
  TRY_ASSIGN(const auto when, parse_rfc3339(text));
  return std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
}

WorkloadSummary EngineImpl::summary_of(const WorkloadRow& row, const RunState& state) const {
  WorkloadSummary out;
  out.id = row.id;
  out.name = row.name;
  out.image = row.image;
  if (auto digest = Digest::parse(row.image_id); digest.ok()) out.image_id = std::move(*digest);
  out.command = row.command;
  out.created = time_of(row.created_ns);
  out.status = row.removing ? Status::kRemoving : state.status;
  RunState shown = state;
  shown.status = out.status;
  out.status_text = status_text(shown);
  if (state.status == Status::kRunning || state.status == Status::kPaused) {
    out.health = read_health_status(paths_, row.id);
    if (out.health == "starting") {
      out.status_text += " (health: starting)";
    } else if (!out.health.empty()) {
      out.status_text += " (" + out.health + ")";
    }
  }
  if (state.status == Status::kRunning || state.status == Status::kPaused) out.ports = ports_of(row.ports);
  out.labels = labels_from_json(row.labels);
  out.mounts = lines_of(row.mounts);
  out.network = row.network;
  out.isolation = row.isolation;
  out.pid = state.pid;
  if (state.exit) out.exit_code = state.exit->code;
  return out;
}

Result<std::vector<WorkloadSummary>> EngineImpl::list(const ListFilter& filter) {
  TRY(check_filters(filter.filters, {"id", "name", "label", "exited", "status", "ancestor", "before", "since", "volume",
                                     "network", "publish", "expose", "health", "isolation", "is-task"}));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::vector<WorkloadRow> rows, names->list());
  const Filters& f = filter.filters;
  std::optional<int64_t> before_ns, since_ns;
  for (const auto& [name, target] : {std::pair("before", &before_ns), std::pair("since", &since_ns)}) {
    const auto it = f.find(name);
    if (it == f.end()) continue;
    TRY_ASSIGN(const WorkloadRow other, names->find(it->second));
    *target = other.created_ns;
  }
  std::vector<std::string> wanted_networks;
  for (auto [it, end] = f.equal_range("network"); it != end; ++it) {
    wanted_networks.push_back(it->second);
    // An id, or the beginning of one.
    TRY_ASSIGN(net::NetworkManager* const manager, network());
    if (const auto found = manager->inspect(it->second); found.ok()) wanted_networks.push_back(found->name);
  }
  std::vector<std::string> ancestors;
  for (auto [it, end] = f.equal_range("ancestor"); it != end; ++it) {
    auto image = images_->find(it->second);
    ancestors.push_back(image.ok() ? image->id.str() : it->second);
  }
  static constexpr std::string_view kStatuses[] = {"created", "restarting", "running", "removing",
                                                   "paused",  "exited",     "dead"};
  for (auto [it, end] = f.equal_range("status"); it != end; ++it) {
    if (std::find(std::begin(kStatuses), std::end(kStatuses), it->second) == std::end(kStatuses)) {
      return errorf(ErrorKind::kInvalid, "invalid filter 'status={}'", it->second);
    }
  }
  for (auto [it, end] = f.equal_range("health"); it != end; ++it) {
    if (it->second != "none" && it->second != "starting" && it->second != "healthy" && it->second != "unhealthy") {
      return errorf(ErrorKind::kInvalid, "invalid filter 'health={}'", it->second);
    }
  }
  const bool every = filter.all || filter.last > 0 || f.contains("status") || f.contains("exited");
  std::vector<WorkloadSummary> out;
  for (const WorkloadRow& row : rows) {
    if (filter.last > 0 && out.size() >= static_cast<size_t>(filter.last)) break;
    if ((before_ns && row.created_ns >= *before_ns) || (since_ns && row.created_ns <= *since_ns)) continue;
    if (!any_value(f, "id", [&](const std::string& v) { return row.id.starts_with(v); }) ||
        !any_value(f, "name", [&](const std::string& v) { return row.name.find(v) != std::string::npos; }) ||
        (!wanted_networks.empty() && std::none_of(wanted_networks.begin(), wanted_networks.end(),
                                                  [&](const std::string& v) { return is_on(row, v); })) ||
        !any_value(f, "isolation", [&](const std::string& v) { return to_string(row.isolation) == v; })) {
      continue;
    }
    if (!ancestors.empty() && std::none_of(ancestors.begin(), ancestors.end(),
                                           [&](const std::string& a) { return a == row.image_id || a == row.image; })) {
      continue;
    }
    RunState state = read_state(paths_, row.id);
    if (state.orphaned || state.restart_lost) {
      auto settled = settled_state(row);
      if (settled.ok()) state = *settled;
      if (settled.ok() && row.auto_remove) continue;  // it was removed
    } else if (state.needs_cleanup && row.auto_remove && !monitor_alive(paths_, row.id)) {
      // Nobody is left who would remove it.
      ignore_result(cleanup(row.id));
      continue;
    }
    if (!every && !is_live(state.status)) continue;
    WorkloadSummary one = summary_of(row, state);
    if (!any_value(f, "status", [&](const std::string& v) { return v == to_string(one.status); }) ||
        !any_value(f, "health",
                   [&](const std::string& v) { return v == (one.health.empty() ? "none" : one.health); }) ||
        !any_value(f, "exited",
                   [&](const std::string& v) {
                     return one.status == Status::kExited && std::to_string(one.exit_code) == v;
                   }) ||
        !all_values(f, "label", [&](const std::string& v) { return has_label(one.labels, v); }) ||
        !any_value(f, "volume",
                   [&](const std::string& v) {
                     return std::any_of(one.mounts.begin(), one.mounts.end(), [&](const std::string& line) {
                       const MountLine mount = read_mount_line(line);
                       return mount.source == v || mount.target == v;
                     });
                   }) ||
        !any_value(f, "publish", [&](const std::string& v) {
          return std::any_of(one.ports.begin(), one.ports.end(), [&](const PublishedPort& p) {
            return std::to_string(p.host_port) == v || fmt::format("{}/{}", p.host_port, p.protocol) == v;
          });
        })) {
      continue;
    }
    out.push_back(std::move(one));
  }
  return out;
}

Result<WorkloadSummary> EngineImpl::summary(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  return summary_of(row, state);
}

Result<store::PruneReport> EngineImpl::prune(const std::multimap<std::string, std::string>& filters) {
  TRY(check_filters(filters, {"label", "label!", "until"}));
  std::optional<int64_t> until_ns;
  if (const auto it = filters.find("until"); it != filters.end()) {
    TRY_ASSIGN(until_ns, moment_of(it->second));
  }
  ListFilter all;
  all.all = true;
  TRY_ASSIGN(const std::vector<WorkloadSummary> workloads, list(all));
  store::PruneReport report;
  for (const WorkloadSummary& one : workloads) {
    if (is_live(one.status)) continue;
    const int64_t created =
        std::chrono::duration_cast<std::chrono::nanoseconds>(one.created.time_since_epoch()).count();
    if (until_ns && created >= *until_ns) continue;
    if (!all_values(filters, "label", [&](const std::string& v) { return has_label(one.labels, v); }) ||
        !all_values(filters, "label!", [&](const std::string& v) { return !has_label(one.labels, v); })) {
      continue;
    }
    const uint64_t size = tree_size(paths_.workload(one.id));
    auto removed = remove(one.id, false, false);
    if (!removed.ok()) {
      const ErrorKind kind = removed.error().kind();
      if (kind == ErrorKind::kConflict || kind == ErrorKind::kNotFound) continue;  // started or gone meanwhile
      return std::move(removed).error();
    }
    report.deleted.push_back(one.id);
    report.reclaimed += size;
  }
  emit({"container", "prune", "", {{"reclaimed", std::to_string(report.reclaimed)}}});
  return report;
}

}  // namespace hull::engine
