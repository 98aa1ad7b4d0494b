// What the API of Docker has and this machine does not: swarm answers as a Docker without swarm does, building and
// plug-ins say what there is instead.
#include "api/routes.h"
#include "base/error_format.h"

namespace hull::api {
namespace {

Result<void> swarm(Request&, Response&) {
  return errorf(ErrorKind::kUnavailable,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this "
                "node to swarm and try again.");
}

Result<void> build(Request&, Response&) {
  return errorf(
      ErrorKind::kUnsupported,
      "Hull builds no images yet: build with another tool and push, or 'docker save' and load the image here");
}

Result<void> no_plugins(Request&, Response& response) {
  response.json(200, "[]");
  return {};
}

Result<void> plugins(Request&, Response&) {
  return errorf(ErrorKind::kUnsupported,
                "Hull has no plug-ins: volumes are local, networks are bridge, macvlan, ipvlan");
}

Result<void> sessions(Request&, Response&) {
  return errorf(ErrorKind::kUnsupported, "sessions of a builder are not served: Hull builds no images yet");
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/swarm", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/swarm/unlockkey", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "POST", .pattern = "/swarm/{action}", .right = Right::kAdmin, .handler = swarm},
    {.method = "GET", .pattern = "/nodes", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/nodes/{id...}", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "DELETE", .pattern = "/nodes/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "POST", .pattern = "/nodes/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "GET", .pattern = "/services", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/services/{id...}", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "POST", .pattern = "/services/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "DELETE", .pattern = "/services/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "GET", .pattern = "/tasks", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/tasks/{id...}", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/secrets", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/secrets/{id...}", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "POST", .pattern = "/secrets/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "DELETE", .pattern = "/secrets/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "GET", .pattern = "/configs", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "GET", .pattern = "/configs/{id...}", .right = Right::kView, .handler = swarm, .scoped = true},
    {.method = "POST", .pattern = "/configs/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "DELETE", .pattern = "/configs/{id...}", .right = Right::kAdmin, .handler = swarm},
    {.method = "POST", .pattern = "/build", .right = Right::kOperate, .handler = build},
    {.method = "POST", .pattern = "/build/prune", .right = Right::kOperate, .handler = build},
    {.method = "POST", .pattern = "/build/cancel", .right = Right::kOperate, .handler = build},
    {.method = "POST", .pattern = "/session", .right = Right::kOperate, .handler = sessions},
    {.method = "POST", .pattern = "/grpc", .right = Right::kOperate, .handler = sessions},
    {.method = "GET", .pattern = "/plugins", .right = Right::kView, .handler = no_plugins, .scoped = true},
    {.method = "GET", .pattern = "/plugins/{id...}", .right = Right::kView, .handler = plugins, .scoped = true},
    {.method = "POST", .pattern = "/plugins/{id...}", .right = Right::kAdmin, .handler = plugins},
    {.method = "DELETE", .pattern = "/plugins/{id...}", .right = Right::kAdmin, .handler = plugins},
};

}  // namespace

std::span<const Route> absent_routes() { return kRoutes; }

}  // namespace hull::api
