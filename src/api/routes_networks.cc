// Networks: create, list, inspect, delete, connect, disconnect, prune.
#include "api/json.h"
#include "api/routes.h"
#include "api/versions.h"
#include "base/error_format.h"
#include "base/json_writer.h"

namespace hull::api {
namespace {

/// Docker calls 403 what it refuses of networks in the state that they are in.
template <typename T>
Result<T> forbidden(Result<T> outcome) {
  if (!outcome.ok() && outcome.error().kind() == ErrorKind::kConflict) {
    return std::move(outcome).error().as(ErrorKind::kPermission);
  }
  return outcome;
}

Result<std::optional<net::Subnet>> read_subnet(const Json& object, std::string_view name) {
  std::string text;
  TRY(read_member(object, name, &text));
  if (text.empty()) return std::optional<net::Subnet>();
  TRY_ASSIGN(const net::Subnet subnet, net::Subnet::parse(text));
  return std::optional<net::Subnet>(subnet);
}

Result<std::optional<net::IpAddress>> read_address(const Json& object, std::string_view name) {
  std::string text;
  TRY(read_member(object, name, &text));
  if (text.empty()) return std::optional<net::IpAddress>();
  TRY_ASSIGN(const net::IpAddress address, net::IpAddress::parse(text));
  return std::optional<net::IpAddress>(address);
}

Result<net::IpamPool> read_pool(const Json& object) {
  net::IpamPool out;
  TRY_ASSIGN(out.subnet, read_subnet(object, "Subnet"));
  TRY_ASSIGN(out.range, read_subnet(object, "IPRange"));
  TRY_ASSIGN(out.gateway, read_address(object, "Gateway"));
  std::map<std::string, std::string> taken;
  TRY(read_member(object, "AuxiliaryAddresses", &taken));
  for (const auto& [name, text] : taken) {
    TRY_ASSIGN(const net::IpAddress address, net::IpAddress::parse(text));
    out.taken.emplace(name, address);
  }
  return out;
}

Result<net::NetworkRequest> read_request(const Json& body) {
  net::NetworkRequest out;
  TRY(read_member(body, "Name", &out.name));
  TRY(read_member(body, "Driver", &out.driver));
  TRY(read_member(body, "Internal", &out.internal));
  TRY(read_member(body, "Attachable", &out.attachable));
  TRY(read_member(body, "EnableIPv4", &out.ipv4));
  TRY(read_member(body, "EnableIPv6", &out.ipv6));
  TRY(read_member(body, "Options", &out.options));
  TRY(read_member(body, "Labels", &out.labels));
  for (const std::string_view swarm : {"Ingress", "ConfigOnly"}) {
    bool wanted = false;
    TRY(read_member(body, swarm, &wanted));
    if (wanted) return errorf(ErrorKind::kUnavailable, "{}: This node is not a swarm manager.", swarm);
  }
  std::string scope;
  TRY(read_member(body, "Scope", &scope));
  if (!scope.empty() && scope != "local") {
    return errorf(ErrorKind::kUnavailable, "scope {:.80}: This node is not a swarm manager.", scope);
  }
  const Json* const ipam = body.find("IPAM");
  if (ipam == nullptr) return out;
  TRY(read_member(*ipam, "Driver", &out.ipam_driver));
  TRY(read_member(*ipam, "Options", &out.ipam_options));
  const Json* const pools = ipam->find("Config");
  if (pools == nullptr) return out;
  for (const Json& pool : pools->items) {
    if (pool.is_default()) continue;
    TRY_ASSIGN(out.pools.emplace_back(), read_pool(pool));
  }
  return out;
}

Result<engine::NetworkAttachment> read_attachment(const Json& object) {
  engine::NetworkAttachment out;
  TRY(read_member(object, "Aliases", &out.aliases));
  TRY(read_member(object, "Links", &out.links));
  TRY(read_member(object, "MacAddress", &out.mac_address));
  TRY(read_member(object, "DriverOpts", &out.driver_options));
  int64_t priority = 0;
  TRY(read_member(object, "GwPriority", &priority));
  if (priority < INT32_MIN || priority > INT32_MAX) return errorf(ErrorKind::kInvalid, "GwPriority: out of range");
  out.gateway_priority = static_cast<int>(priority);
  const Json* const ipam = object.find("IPAMConfig");
  if (ipam == nullptr) return out;
  TRY(read_member(*ipam, "IPv4Address", &out.ipv4));
  TRY(read_member(*ipam, "IPv6Address", &out.ipv6));
  std::vector<std::string> link_local;
  TRY(read_member(*ipam, "LinkLocalIPs", &link_local));
  if (!link_local.empty()) {
    return errorf(ErrorKind::kUnsupported, "LinkLocalIPs: the link-local address follows from the MAC address");
  }
  return out;
}

Result<void> create(Request& request, Response& response) {
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  TRY_ASSIGN(const net::NetworkRequest wanted, read_request(body));
  request.note_subject(wanted.name);
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const net::Network made, forbidden(engine->network_create(wanted)));
  JsonWriter w;
  w.object([&] {
    w.member("Id", made.id);
    w.member("Warning", "");
  });
  response.json(201, std::move(w).take());
  return {};
}

Result<void> list(Request& request, Response& response) {
  TRY_ASSIGN(const Filters filters, request.filters({"dangling", "driver", "id", "label", "name", "scope", "type"}));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const auto networks, engine->network_list(filters));
  std::string out = "[";
  for (const auto& one : networks) out += (out.size() == 1 ? "" : ",") + one.json;
  response.json(200, out + "]");
  return {};
}

Result<void> inspect(Request& request, Response& response) {
  const std::string_view scope = request.query("scope");
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  if (!scope.empty() && scope != "local") {
    return errorf(ErrorKind::kNotFound, "network {:.128} not found", request.param("id"));
  }
  TRY_ASSIGN(engine::Engine::NetworkInfo info, engine->network_inspect(request.param("id")));
  if (request.at_least(52) && info.json.ends_with('}')) {
    info.json.back() = ',';
    info.json += "\"Status\":" + network_status(info) + "}";
  }
  response.json(200, std::move(info.json));
  return {};
}

Result<void> remove(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY(forbidden(engine->network_remove(request.param("id"))));
  response.empty(204);
  return {};
}

Result<void> connect(Request& request, Response& response) {
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  std::string container;
  TRY(read_member(body, "Container", &container));
  engine::NetworkAttachment wanted;
  if (const Json* const config = body.find("EndpointConfig"); config != nullptr) {
    TRY_ASSIGN(wanted, read_attachment(*config));
  }
  TRY_ASSIGN(const std::string id, request.workload(container));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY(forbidden(engine->network_connect(request.param("id"), id, wanted)));
  response.empty(200);
  return {};
}

Result<void> disconnect(Request& request, Response& response) {
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  std::string container;
  bool force = false;
  TRY(read_member(body, "Container", &container));
  TRY(read_member(body, "Force", &force));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY(forbidden(engine->network_disconnect(request.param("id"), container, force)));
  response.empty(200);
  return {};
}

Result<void> prune(Request& request, Response& response) {
  TRY_ASSIGN(const Filters filters, request.filters({"label", "label!", "until"}));
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const std::vector<std::string> removed, engine->network_prune(filters));
  JsonWriter w;
  w.object([&] { w.member("NetworksDeleted", removed); });
  response.json(200, std::move(w).take());
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/networks", .right = Right::kView, .handler = list},
    {.method = "POST", .pattern = "/networks/create", .right = Right::kOperate, .handler = create},
    {.method = "POST", .pattern = "/networks/prune", .right = Right::kOperate, .handler = prune},
    {.method = "POST", .pattern = "/networks/{id}/connect", .right = Right::kOperate, .handler = connect},
    {.method = "POST", .pattern = "/networks/{id}/disconnect", .right = Right::kOperate, .handler = disconnect},
    {.method = "GET", .pattern = "/networks/{id}", .right = Right::kView, .handler = inspect},
    {.method = "DELETE", .pattern = "/networks/{id}", .right = Right::kOperate, .handler = remove},
};

}  // namespace

std::span<const Route> network_routes() { return kRoutes; }

}  // namespace hull::api
