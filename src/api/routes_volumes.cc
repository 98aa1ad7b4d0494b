// Volumes.
#include "api/documents.h"
#include "api/json.h"
#include "api/routes.h"
#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/units.h"

namespace hull::api {
namespace {

Result<void> list(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const Filters filters, request.filters({"dangling", "driver", "label", "name"}));
  TRY_ASSIGN(const std::vector<engine::Volume> volumes, engine->volume_list(filters));
  JsonWriter w;
  w.object([&] {
    w.array("Volumes", [&] {
      for (const engine::Volume& volume : volumes) {
        if (request.who().sees(volume.labels)) write_volume(w, volume);
      }
    });
    w.array("Warnings", [] {});
  });
  response.json(200, std::move(w).take());
  return {};
}

/// kNotFound for one that a confined client does not see.
Result<engine::Volume> seen_volume(Request& request) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(engine::Volume volume, engine->volume_inspect(request.param("name")));
  if (!request.who().sees(volume.labels)) {
    return errorf(ErrorKind::kNotFound, "get {}: no such volume", request.param("name"));
  }
  return volume;
}

Result<void> inspect(Request& request, Response& response) {
  TRY_ASSIGN(const engine::Volume volume, seen_volume(request));
  JsonWriter w;
  write_volume(w, volume);
  response.json(200, std::move(w).take());
  return {};
}

/// A volume that shows a folder of this machine (type none, o=bind) is power over it.
bool reaches_the_host(const std::map<std::string, std::string>& options) {
  const auto device = options.find("device");
  return device != options.end() && device->second.starts_with('/');
}

Result<void> create(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  std::string name, driver;
  std::map<std::string, std::string> options, labels;
  TRY(read_member(body, "Name", &name));
  TRY(read_member(body, "Driver", &driver));
  TRY(read_member(body, "DriverOpts", &options));
  TRY(read_member(body, "Labels", &labels));
  if (const Json* const cluster = body.find("ClusterVolumeSpec"); cluster != nullptr && !cluster->is_default()) {
    return errorf(ErrorKind::kUnavailable, "This node is not a swarm manager: there are no cluster volumes");
  }
  request.note_subject(name);
  if (reaches_the_host(options) && !request.who().may(Right::kAdmin)) {
    return errorf(ErrorKind::kPermission, "a volume of a folder of the host takes an administrator");
  }
  if (!request.who().sees(labels)) {
    return errorf(ErrorKind::kPermission, "the volume needs the labels that you are confined to");
  }
  TRY_ASSIGN(const engine::Volume volume, engine->volume_create(name, driver, std::move(options), std::move(labels)));
  if (!request.who().sees(volume.labels)) {
    return errorf(ErrorKind::kConflict, "create {}: a volume with this name exists", volume.name);
  }
  JsonWriter w;
  write_volume(w, volume);
  response.json(201, std::move(w).take());
  return {};
}

Result<void> remove(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  const bool force = request.query_flag("force");
  auto known = seen_volume(request);
  if (!known.ok() && !(force && known.error().kind() == ErrorKind::kNotFound)) return std::move(known).error();
  if (known.ok()) TRY(engine->volume_remove(known->name, force));
  response.empty(204);
  return {};
}

Result<void> prune(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(Filters filters, request.filters({"label", "label!", "all"}));
  // Before 1.42 named volumes went too.
  bool all = !request.at_least(42);
  for (auto [it, end] = filters.equal_range("all"); it != end; ++it) all = it->second == "true" || it->second == "1";
  filters.erase("all");
  TRY_ASSIGN(const store::PruneReport report, engine->volume_prune(all, filters));
  JsonWriter w;
  w.object([&] {
    w.member("VolumesDeleted", report.deleted);
    w.member("SpaceReclaimed", report.reclaimed);
  });
  response.json(200, std::move(w).take());
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/volumes", .right = Right::kView, .handler = list, .scoped = true},
    {.method = "POST", .pattern = "/volumes/create", .right = Right::kOperate, .handler = create, .scoped = true},
    {.method = "POST", .pattern = "/volumes/prune", .right = Right::kOperate, .handler = prune},
    {.method = "GET", .pattern = "/volumes/{name}", .right = Right::kView, .handler = inspect, .scoped = true},
    {.method = "DELETE", .pattern = "/volumes/{name}", .right = Right::kOperate, .handler = remove, .scoped = true},
};

}  // namespace

std::span<const Route> volume_routes() { return kRoutes; }

}  // namespace hull::api
