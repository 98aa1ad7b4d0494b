// Containers: making them, looking at them, what is done to them.
#include <algorithm>

#include "api/create_body.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/routes.h"
#include "api/versions.h"
#include "base/error_format.h"
#include "base/json_writer.h"

namespace hull::api {
namespace {

using engine::Engine;

constexpr int64_t kMostSeconds = 1'000'000'000;

Result<void> create(Request& request, Response& response) {
  TRY_ASSIGN(const std::string body, request.body_text());
  std::vector<std::string> warnings;
  TRY_ASSIGN(const engine::Config config,
             read_create(body, request.query("name"), request.query("platform"), request.version(), &warnings));
  TRY(check_create(request.who(), config));
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const Engine::Created made, engine->create(config, engine::PullPolicy::kNever));
  request.note_subject(made.id);
  JsonWriter w;
  w.object([&] {
    w.member("Id", made.id);
    warnings.insert(warnings.end(), made.warnings.begin(), made.warnings.end());
    w.member("Warnings", warnings);
  });
  response.json(201, std::move(w).take());
  return {};
}

/// An answer that is kept and still true.
bool answer_again(Request& request, Response& response) {
  const std::string* const kept = request.cache().find(request.target(), request.settings());
  if (kept != nullptr) response.json(200, *kept);
  return kept != nullptr;
}

Result<void> list(Request& request, Response& response) {
  if (answer_again(request, response)) return {};
  AnswerCache::Token before = AnswerCache::token(request.settings());
  engine::ListFilter filter;
  filter.all = request.query_flag("all");
  TRY_ASSIGN(const auto limit, request.query_number("limit", -1, 1'000'000));
  if (limit && *limit > 0) filter.last = static_cast<int>(*limit);
  TRY_ASSIGN(filter.filters,
             request.filters({"ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task", "label",
                              "name", "network", "publish", "since", "status", "volume"}));
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(std::vector<engine::WorkloadSummary> found, engine->list(filter));
  if (request.who().scoped()) std::erase_if(found, [&](const auto& one) { return !request.who().sees(one.labels); });
  const bool sizes = request.query_flag("size");
  std::string body =
      list_document(found, sizes ? engine : nullptr, request.at_least(52) ? &request.settings() : nullptr);
  if (!sizes) {
    std::vector<int> pids;
    for (const auto& one : found) {
      if (one.pid != 0) pids.push_back(one.pid);
    }
    request.cache().keep(request.target(), std::move(before), body, pids);
  }
  response.json(200, std::move(body));
  return {};
}

Result<void> inspect(Request& request, Response& response) {
  if (answer_again(request, response)) return {};
  AnswerCache::Token before = AnswerCache::token(request.settings());
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(engine::WorkloadDetails details, engine->inspect(id));
  if (request.query_flag("size")) {
    TRY_ASSIGN(const engine::Footprint footprint, engine->footprint(id));
    details.json.insert(1, fmt::format("\"SizeRw\":{},\"SizeRootFs\":{},", footprint.disk, footprint.disk));
  }
  if (!request.who().sees_secrets()) {
    TRY_ASSIGN(details.json, without_secrets(details.json));
  }
  // Clients decide by the driver's name whether there are logs to read; kept is what was asked for.
  constexpr std::string_view kDefaultLog = "\"LogConfig\":{\"Type\":\"\"";
  if (const size_t at = details.json.rfind(kDefaultLog); at != std::string::npos) {
    details.json.insert(at + kDefaultLog.size() - 1, "json-file");
  }
  if (request.at_least(52)) details.json = without_old_addresses(std::move(details.json));
  if (!request.query_flag("size")) {
    const int pid = details.summary.pid;
    request.cache().keep(request.target(), std::move(before), details.json,
                         pid == 0 ? std::vector<int>() : std::vector<int>{pid});
  }
  response.json(200, std::move(details.json));
  return {};
}

/// For what needs nothing but the workload.
template <typename F>
Result<void> act(Request& request, Response& response, F action) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY(action(*engine, id));
  response.empty(204);
  return {};
}

bool runs(engine::Status status) {
  return status == engine::Status::kRunning || status == engine::Status::kPaused ||
         status == engine::Status::kRestarting;
}

Result<void> start(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::WorkloadSummary before, engine->summary(id));
  if (before.status == engine::Status::kRunning) {
    response.empty(304);
    return {};
  }
  const auto started = engine->start(before.id, false, false);
  if (!started.ok()) return Error(start_kind(started.error()), start_message(started.error()));
  response.empty(204);
  return {};
}

Result<std::optional<int>> timeout_of(const Request& request) {
  TRY_ASSIGN(const auto seconds, request.query_number("t", -1, kMostSeconds));
  return seconds ? std::optional<int>(static_cast<int>(*seconds)) : std::nullopt;
}

Result<void> stop(Request& request, Response& response) {
  TRY_ASSIGN(const std::optional<int> timeout, timeout_of(request));
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::WorkloadSummary before, engine->summary(id));
  if (!runs(before.status)) {
    response.empty(304);
    return {};
  }
  TRY(engine->stop(before.id, timeout, request.query("signal")));
  response.empty(204);
  return {};
}

Result<void> restart(Request& request, Response& response) {
  TRY_ASSIGN(const std::optional<int> timeout, timeout_of(request));
  return act(request, response, [&](Engine& engine, const std::string& id) {
    return engine.restart(id, timeout, request.query("signal"));
  });
}

Result<void> kill(Request& request, Response& response) {
  return act(request, response,
             [&](Engine& engine, const std::string& id) { return engine.kill(id, request.query("signal")); });
}

Result<void> pause(Request& request, Response& response) {
  return act(request, response, [](Engine& engine, const std::string& id) { return engine.pause(id); });
}

Result<void> unpause(Request& request, Response& response) {
  return act(request, response, [](Engine& engine, const std::string& id) { return engine.unpause(id); });
}

Result<void> remove(Request& request, Response& response) {
  if (request.query_flag("link")) {
    return errorf(ErrorKind::kUnsupported, "links between containers' names are not removed one by one here");
  }
  return act(request, response, [&](Engine& engine, const std::string& id) {
    return engine.remove(id, request.query_flag("force"), request.query_flag("v"));
  });
}

Result<void> resize(Request& request, Response& response) {
  TRY_ASSIGN(const auto height, request.query_number("h", 0, 65535));
  TRY_ASSIGN(const auto width, request.query_number("w", 0, 65535));
  if (!height || !width) return errorf(ErrorKind::kInvalid, "the parameters h and w are needed");
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::WorkloadSummary now, engine->summary(id));
  if (!runs(now.status)) return errorf(ErrorKind::kConflict, "container {} is not running", now.id);
  TRY(engine->resize(id, {.height = static_cast<uint32_t>(*height), .width = static_cast<uint32_t>(*width)}));
  response.empty(200);
  return {};
}

Result<void> top(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  std::vector<std::string> arguments;
  std::string_view text = request.has_query("ps_args") ? request.query("ps_args") : "-ef";
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) arguments.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  TRY_ASSIGN(const auto rows, engine->top(id, arguments));
  JsonWriter w;
  w.object([&] {
    w.member("Titles", rows.empty() ? std::vector<std::string>() : rows.front());
    w.array("Processes", [&] {
      for (size_t i = 1; i < rows.size(); ++i) w.value(rows[i]);
    });
  });
  response.json(200, std::move(w).take());
  return {};
}

Result<void> wait(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(const std::unique_ptr<engine::PendingWait> pending, engine->begin_wait(id, request.query("condition")));
  // The head goes first: the client starts the container once it knows that the wait has begun. Clients before 1.30
  // expect no answer until there is one.
  const bool early = request.at_least(30);
  if (early) {
    TRY(response.start_stream(200, "application/json"));
  } else {
    response.watch_client();
  }
  const Result<engine::ExitInfo> ended = pending->finish();
  if (!ended.ok() && !early) return ended.error();
  JsonWriter w;
  w.object([&] {
    w.member("StatusCode", ended.ok() ? ended->code : 0);
    const std::string& error = ended.ok() ? ended->error : ended.error().message();
    if (!error.empty()) w.object("Error", [&] { w.member("Message", error); });
  });
  std::string text = std::move(w).take() + "\n";
  if (early) return response.write(text);
  response.json(200, std::move(text));
  return {};
}

Result<void> prune(Request& request, Response& response) {
  TRY_ASSIGN(const Filters filters, request.filters({"until", "label", "label!"}));
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const store::PruneReport report, engine->prune(filters));
  JsonWriter w;
  w.object([&] {
    w.member("ContainersDeleted", report.deleted);
    w.member("SpaceReclaimed", report.reclaimed);
  });
  response.json(200, std::move(w).take());
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "POST", .pattern = "/containers/create", .right = Right::kOperate, .handler = create, .scoped = true},
    {.method = "GET", .pattern = "/containers/json", .right = Right::kView, .handler = list, .scoped = true},
    {.method = "GET", .pattern = "/containers/{id}/json", .right = Right::kView, .handler = inspect, .scoped = true},
    {.method = "GET", .pattern = "/containers/{id}/top", .right = Right::kView, .handler = top, .scoped = true},
    {.method = "POST", .pattern = "/containers/{id}/start", .right = Right::kOperate, .handler = start, .scoped = true},
    {.method = "POST", .pattern = "/containers/{id}/stop", .right = Right::kOperate, .handler = stop, .scoped = true},
    {.method = "POST",
     .pattern = "/containers/{id}/restart",
     .right = Right::kOperate,
     .handler = restart,
     .scoped = true},
    {.method = "POST", .pattern = "/containers/{id}/kill", .right = Right::kOperate, .handler = kill, .scoped = true},
    {.method = "POST", .pattern = "/containers/{id}/pause", .right = Right::kOperate, .handler = pause, .scoped = true},
    {.method = "POST",
     .pattern = "/containers/{id}/unpause",
     .right = Right::kOperate,
     .handler = unpause,
     .scoped = true},
    {.method = "POST",
     .pattern = "/containers/{id}/resize",
     .right = Right::kOperate,
     .handler = resize,
     .scoped = true},
    {.method = "POST", .pattern = "/containers/{id}/wait", .right = Right::kView, .handler = wait, .scoped = true},
    {.method = "DELETE", .pattern = "/containers/{id}", .right = Right::kOperate, .handler = remove, .scoped = true},
    {.method = "POST", .pattern = "/containers/prune", .right = Right::kOperate, .handler = prune, .since_minor = 25},
};

}  // namespace

std::span<const Route> container_routes() { return kRoutes; }

}  // namespace hull::api
