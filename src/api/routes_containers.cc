// Looking at containers: list, inspect.
#include "api/routes.h"
#include "base/error_format.h"
#include "base/json_writer.h"

namespace hull::api {
namespace {

Result<void> inspect(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string id, request.workload(request.param("id")));
  TRY_ASSIGN(engine::WorkloadDetails details, engine->inspect(id));
  response.json(200, std::move(details.json));
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/containers/{id}/json", .right = Right::kView, .handler = inspect, .scoped = true},
};

}  // namespace

std::span<const Route> container_routes() { return kRoutes; }

}  // namespace hull::api
