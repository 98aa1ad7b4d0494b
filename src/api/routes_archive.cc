// Files of containers, and changes to containers that exist: archive, changes, export, commit, rename, update.
#include "api/json.h"
#include "api/routes.h"
#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/units.h"

namespace hull::api {
namespace {

std::string base64(std::string_view data) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at < data.size(); at += 3) {
    const auto byte = [&](size_t i) {
      return at + i < data.size() ? static_cast<uint32_t>(static_cast<unsigned char>(data[at + i])) : 0U;
    };
    const uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
    out += kDigits[group >> 18];
    out += kDigits[group >> 12 & 63];
    out += at + 1 < data.size() ? kDigits[group >> 6 & 63] : '=';
    out += at + 2 < data.size() ? kDigits[group & 63] : '=';
  }
  return out;
}

std::string stat_header(const engine::PathStat& stat) {
  JsonWriter w;
  w.object([&] {
    w.member("name", stat.name);
    w.member("size", stat.size);
    w.member("mode", engine::go_file_mode(stat.mode));
    w.member("mtime", format_rfc3339(stat.modified));
    w.member("linkTarget", stat.link_target);
  });
  return base64(std::move(w).take());
}

Result<std::string> path_of(const Request& request) {
  std::string path(request.query("path"));
  if (path.empty()) return errorf(ErrorKind::kInvalid, "bad parameter: missing path");
  return path;
}

Result<void> archive_head(Request& request, Response& response) {
  TRY_ASSIGN(const std::string path, path_of(request));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::PathStat stat, engine->path_stat(id, path));
  response.add_header("X-Docker-Container-Path-Stat", stat_header(stat));
  response.empty(200);
  return {};
}

Result<void> archive_get(Request& request, Response& response) {
  TRY_ASSIGN(const std::string path, path_of(request));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  return engine->archive_get(
      id, path,
      [&](const engine::PathStat& stat) -> Result<void> {
        response.add_header("X-Docker-Container-Path-Stat", stat_header(stat));
        return response.start_stream(200, "application/x-tar");
      },
      [&](std::string_view bytes) { return response.write(bytes); });
}

Result<void> archive_put(Request& request, Response& response) {
  TRY_ASSIGN(const std::string path, path_of(request));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  engine::PutOptions options;
  options.no_overwrite_dir_non_dir = request.query_flag("noOverwriteDirNonDir");
  options.to_container_user = request.query_flag("copyUIDGID");
  TRY(engine->archive_put(id, path, options, [&](char* data, size_t size) { return request.read_body(data, size); }));
  response.empty(200);
  return {};
}

Result<void> changes(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const std::vector<engine::FileChange> found, engine->changes(id));
  JsonWriter w;
  w.array([&] {
    for (const engine::FileChange& change : found) {
      w.object([&] {
        w.member("Path", change.path);
        w.member("Kind", static_cast<int>(change.kind));
      });
    }
  });
  response.json(200, std::move(w).take());
  return {};
}

Result<void> export_files(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  return engine->export_files(id, [&](std::string_view bytes) -> Result<void> {
    // The head goes with the first byte, so that what fails before it has a status.
    if (!response.started()) TRY(response.start_stream(200, "application/octet-stream"));
    return response.write(bytes);
  });
}

Result<void> commit(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  const std::string_view ref = request.query("container");
  if (ref.empty()) return errorf(ErrorKind::kInvalid, "bad parameter: missing container");
  TRY_ASSIGN(const std::string id, request.workload(ref));
  request.note_subject(std::string(ref));
  engine::CommitRequest wanted;
  wanted.reference = request.query("repo");
  if (const auto tag = request.query("tag"); !tag.empty() && !wanted.reference.empty()) {
    wanted.reference += ":" + std::string(tag);
  }
  wanted.comment = request.query("comment");
  wanted.author = request.query("author");
  wanted.pause = request.query_flag("pause", true);
  for (const std::string& lines : request.query_all("changes")) {
    for (size_t at = 0; at <= lines.size();) {
      const size_t end = std::min(lines.find('\n', at), lines.size());
      if (end > at) wanted.changes.push_back(lines.substr(at, end - at));
      at = end + 1;
    }
  }
  TRY_ASSIGN(const std::string image, engine->commit(id, wanted));
  JsonWriter w;
  w.object([&] { w.member("Id", image); });
  response.json(201, std::move(w).take());
  return {};
}

Result<void> rename(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY(engine->rename(id, request.query("name")));
  response.empty(204);
  return {};
}

/// 0 and "" mean what was not asked for.
Result<void> read_limit(const Json& body, std::string_view name, std::optional<int64_t>* out) {
  int64_t value = 0;
  TRY(read_member(body, name, &value));
  if (value != 0) *out = value;
  return {};
}

Result<void> read_text(const Json& body, std::string_view name, std::optional<std::string>* out) {
  std::string value;
  TRY(read_member(body, name, &value));
  if (!value.empty()) *out = std::move(value);
  return {};
}

/// From 1.55 on; null and absent leave the rules as they are, an empty list clears them.
Result<void> read_rates(const Json& body, std::string_view name, std::string_view member,
                        std::optional<std::vector<engine::Config::DeviceRate>>* out) {
  const Json* const list = body.find(name);
  if (list == nullptr) return {};
  if (!list->is(Json::Type::kArray)) return errorf(ErrorKind::kInvalid, "{}: expected a list", name);
  out->emplace();
  for (const Json& one : list->items) {
    engine::Config::DeviceRate& rate = (*out)->emplace_back();
    int64_t value = 0;
    TRY(read_member(one, "Path", &rate.path));
    TRY(read_member(one, member, &value));
    if (!rate.path.starts_with('/') || value <= 0) {
      return errorf(ErrorKind::kInvalid, "{}: expected a device's path and a {} above 0", name, member);
    }
    rate.rate = static_cast<uint64_t>(value);
  }
  return {};
}

Result<void> read_device_rates(const Json& body, engine::UpdateRequest* out) {
  TRY(read_rates(body, "BlkioWeightDevice", "Weight", &out->blkio_weight_device));
  TRY(read_rates(body, "BlkioDeviceReadBps", "Rate", &out->device_read_bps));
  TRY(read_rates(body, "BlkioDeviceWriteBps", "Rate", &out->device_write_bps));
  TRY(read_rates(body, "BlkioDeviceReadIOps", "Rate", &out->device_read_iops));
  TRY(read_rates(body, "BlkioDeviceWriteIOps", "Rate", &out->device_write_iops));
  const std::vector<engine::Config::DeviceRate> none;
  for (const engine::Config::DeviceRate& one : out->blkio_weight_device.value_or(none)) {
    if (one.rate < 10 || one.rate > 1000) {
      return errorf(ErrorKind::kInvalid, "range of blkio weight is from 10 to 1000");
    }
  }
  return {};
}

Result<engine::UpdateRequest> read_update(const Json& body, Version version) {
  engine::UpdateRequest out;
  TRY(read_limit(body, "Memory", &out.memory));
  TRY(read_limit(body, "MemorySwap", &out.memory_swap));
  TRY(read_limit(body, "MemoryReservation", &out.memory_reservation));
  TRY(read_limit(body, "NanoCpus", &out.nano_cpus));
  TRY(read_limit(body, "CpuShares", &out.cpu_shares));
  TRY(read_limit(body, "CpuPeriod", &out.cpu_period));
  TRY(read_limit(body, "CpuQuota", &out.cpu_quota));
  TRY(read_limit(body, "CpuRealtimePeriod", &out.cpu_rt_period));
  TRY(read_limit(body, "CpuRealtimeRuntime", &out.cpu_rt_runtime));
  TRY(read_text(body, "CpusetCpus", &out.cpuset_cpus));
  TRY(read_text(body, "CpusetMems", &out.cpuset_mems));
  if (body.find("PidsLimit") != nullptr) {
    int64_t pids = 0;
    TRY(read_member(body, "PidsLimit", &pids));
    out.pids_limit = pids <= 0 ? -1 : pids;
  }
  std::optional<int64_t> weight;
  TRY(read_limit(body, "BlkioWeight", &weight));
  if (weight && (*weight < 10 || *weight > 1000)) {
    return errorf(ErrorKind::kInvalid, "range of blkio weight is from 10 to 1000");
  }
  if (weight) out.blkio_weight = static_cast<uint16_t>(*weight);
  if (const Json* const policy = body.find("RestartPolicy"); policy != nullptr && policy->is(Json::Type::kObject)) {
    engine::RestartPolicy restart;
    restart.name.clear();
    int64_t most = 0;
    TRY(read_member(*policy, "Name", &restart.name));
    TRY(read_member(*policy, "MaximumRetryCount", &most));
    restart.maximum_retries = static_cast<int>(std::min<int64_t>(most, 1 << 30));
    if (!restart.name.empty()) out.restart = std::move(restart);
  }
  const bool device_rates = version >= Version{1, 55};
  if (device_rates) TRY(read_device_rates(body, &out));
  // Limits that are not changed while a workload exists: said, not dropped.
  for (const auto& [name, value] : body.members) {
    static constexpr std::string_view kKnown[] = {
        "Memory",     "MemorySwap", "MemoryReservation", "NanoCpus",          "NanoCPUs",
        "CpuShares",  "CpuPeriod",  "CpuQuota",          "CpuRealtimePeriod", "CpuRealtimeRuntime",
        "CpusetCpus", "CpusetMems", "PidsLimit",         "BlkioWeight",       "RestartPolicy"};
    if (std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown) || value.is_default()) continue;
    if (name.starts_with("BlkioDevice") || name == "BlkioWeightDevice") {
      if (device_rates) continue;
      return errorf(ErrorKind::kUnsupported, "{:.80} is changed by an update from version 1.55 of the API on", name);
    }
    if (name == "KernelMemoryTCP" && version >= Version{1, 52}) continue;  // no limit of any kernel any more
    return errorf(ErrorKind::kUnsupported, "{:.80} can't be changed by an update", name);
  }
  return out;
}

Result<void> update(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  TRY_ASSIGN(const engine::UpdateRequest wanted, read_update(body, request.version()));
  TRY_ASSIGN(const std::vector<std::string> warnings, engine->update(id, wanted));
  JsonWriter w;
  w.object([&] { w.member("Warnings", warnings); });
  response.json(200, std::move(w).take());
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "HEAD",
     .pattern = "/containers/{id}/archive",
     .right = Right::kOperate,
     .handler = archive_head,
     .scoped = true},
    {.method = "GET",
     .pattern = "/containers/{id}/archive",
     .right = Right::kOperate,
     .handler = archive_get,
     .scoped = true},
    {.method = "PUT",
     .pattern = "/containers/{id}/archive",
     .right = Right::kOperate,
     .handler = archive_put,
     .scoped = true},
    {.method = "GET", .pattern = "/containers/{id}/changes", .right = Right::kView, .handler = changes, .scoped = true},
    {.method = "GET",
     .pattern = "/containers/{id}/export",
     .right = Right::kOperate,
     .handler = export_files,
     .scoped = true},
    {.method = "POST", .pattern = "/commit", .right = Right::kOperate, .handler = commit, .scoped = true},
    {.method = "POST",
     .pattern = "/containers/{id}/rename",
     .right = Right::kOperate,
     .handler = rename,
     .scoped = true},
    {.method = "POST",
     .pattern = "/containers/{id}/update",
     .right = Right::kOperate,
     .handler = update,
     .scoped = true},
};

}  // namespace

std::span<const Route> archive_routes() { return kRoutes; }

}  // namespace hull::api
