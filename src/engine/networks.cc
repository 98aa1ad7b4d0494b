// Networks of the user's, and which workloads are on them.
#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/filter.h"
#include "engine/validate.h"
#include "oci/json_writer.h"

namespace hull::engine {
namespace {

using net::Network;
using oci::JsonWriter;

TimePoint time_of(int64_t ns) {
  return TimePoint(std::chrono::duration_cast<TimePoint::duration>(std::chrono::nanoseconds(ns)));
}

void write_pool(JsonWriter& w, const Network& n, const net::Subnet& subnet,
                const std::optional<net::IpAddress>& gateway, const std::optional<net::Subnet>& range) {
  w.object([&] {
    w.member("Subnet", subnet.str());
    if (range) w.member("IPRange", range->str());
    if (gateway && !gateway->is_unspecified()) w.member("Gateway", gateway->str());
    std::map<std::string, std::string> taken;
    for (const auto& [name, address] : n.taken) {
      if (address.family() == subnet.family()) taken.emplace(name, address.str());
    }
    if (!taken.empty()) w.member("AuxiliaryAddresses", taken);
  });
}

void write_members(JsonWriter& w, const std::vector<Engine::NetworkMember>& members) {
  w.object("Containers", [&] {
    for (const Engine::NetworkMember& one : members) {
      const net::Endpoint& e = one.endpoint;
      w.object(e.workload_id, [&] {
        w.member("Name", one.name);
        w.member("EndpointID", e.id);
        w.member("MacAddress", e.mac.str());
        w.member("IPv4Address", fmt::format("{}/{}", e.ipv4.str(), e.prefix4));
        w.member("IPv6Address", e.ipv6 ? fmt::format("{}/{}", e.ipv6->str(), e.prefix6) : std::string());
      });
    }
  });
}

/// What the default bridge's options are, as Docker shows them; of others what was asked for.
std::map<std::string, std::string> shown_options(const Network& n) {
  if (!n.is_default()) return n.options;
  return {{"com.docker.network.bridge.default_bridge", "true"},
          {"com.docker.network.bridge.enable_icc", "true"},
          {"com.docker.network.bridge.enable_ip_masquerade", "true"},
          {"com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"},
          {"com.docker.network.bridge.name", n.bridge_device},
          {"com.docker.network.driver.mtu", std::to_string(n.mtu)}};
}

std::string document(const Network& n, const std::vector<Engine::NetworkMember>& members) {
  const bool has_addresses = n.driver != net::Driver::kHost && n.driver != net::Driver::kNull;
  JsonWriter w;
  w.object([&] {
    w.member("Name", n.name);
    w.member("Id", n.id);
    w.member("Created",
             n.created_ns == 0 ? std::string("0001-01-01T00:00:00Z") : format_rfc3339(time_of(n.created_ns)));
    w.member("Scope", "local");
    w.member("Driver", net::to_string(n.driver));
    w.member("EnableIPv4", has_addresses);
    w.member("EnableIPv6", n.subnet6.has_value());
    w.object("IPAM", [&] {
      w.member("Driver", "default");
      w.member("Options", n.ipam_options);
      w.array("Config", [&] {
        if (!has_addresses) return;
        write_pool(w, n, n.subnet4, n.gateway4, n.range4);
        if (n.subnet6) write_pool(w, n, *n.subnet6, n.gateway6, n.range6);
      });
    });
    w.member("Internal", n.internal);
    w.member("Attachable", n.attachable);
    w.member("Ingress", false);
    w.object("ConfigFrom", [&] { w.member("Network", ""); });
    w.member("ConfigOnly", false);
    write_members(w, members);
    w.member("Options", has_addresses ? shown_options(n) : std::map<std::string, std::string>());
    w.member("Labels", n.labels);
  });
  return std::move(w).take();
}

Error machine_is_running(std::string_view name) {
  return errorf(
      ErrorKind::kUnsupported,
      "{} is a virtual machine, whose network cards are there from its start on: stop it, change its networks, "
      "and start it again",
      name);
}

}  // namespace

bool has_own_networks(std::string_view mode) {
  return mode != "host" && mode != "none" && !mode.starts_with("container:");
}

std::string joined_networks(const Config& config) {
  std::string out;
  for (const NetworkAttachment& one : attachments(config)) out += (out.empty() ? "" : ",") + one.network;
  return out.empty() ? config.network : out;
}

std::vector<NetworkAttachment> attachments(const Config& config) {
  if (!has_own_networks(config.network)) return {};
  std::vector<NetworkAttachment> out = config.networks;
  const std::string mode = config.network == "default" ? std::string(net::kDefaultNetwork) : config.network;
  auto main = std::find_if(out.begin(), out.end(), [&](const NetworkAttachment& one) {
    return one.network == mode || (one.network == "default" && mode == net::kDefaultNetwork);
  });
  if (main == out.end()) {
    // A mode that was not chosen says nothing when networks were.
    if (out.empty() || mode != net::kDefaultNetwork) {
      NetworkAttachment first;
      first.network = mode;
      out.insert(out.begin(), std::move(first));
    }
    main = out.begin();
  }
  if (main->network == "default") main->network = net::kDefaultNetwork;
  if (main->ipv4.empty()) main->ipv4 = config.ip;
  if (main->ipv6.empty()) main->ipv6 = config.ip6;
  if (main->mac_address.empty()) main->mac_address = config.mac_address;
  main->aliases.insert(main->aliases.end(), config.network_aliases.begin(), config.network_aliases.end());
  if (main->network != net::kDefaultNetwork) {
    main->links.insert(main->links.end(), config.links.begin(), config.links.end());
  }
  return out;
}

Result<void> EngineImpl::resolve_networks(Config* config) {
  const bool plain = config->networks.empty() && (config->network == "bridge" || config->network == "default");
  if (plain || !has_own_networks(config->network)) return {};
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  if (config->network != "bridge" && config->network != "default") {
    TRY_ASSIGN(const Network found, manager->inspect(config->network));
    config->network = found.name;
  }
  std::vector<std::string> seen;
  for (NetworkAttachment& one : config->networks) {
    TRY_ASSIGN(const Network found, manager->inspect(one.network));
    if (found.driver == net::Driver::kHost || found.driver == net::Driver::kNull) {
      return errorf(ErrorKind::kInvalid,
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({})",
                    found.name);
    }
    one.network = found.name;
    if (std::find(seen.begin(), seen.end(), found.name) != seen.end()) {
      return errorf(ErrorKind::kInvalid, "network \"{}\" is specified multiple times", found.name);
    }
    seen.push_back(found.name);
  }
  return {};
}

Result<Engine::NetworkInfo> EngineImpl::network_info(const Network& n) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(auto endpoints, manager->list(n.id));
  NetworkInfo out;
  out.network = n;
  for (net::Endpoint& endpoint : endpoints) {
    if (!endpoint.attached) continue;
    TRY_ASSIGN(const std::optional<WorkloadRow> row, names->by_id(endpoint.workload_id));
    out.members.push_back({row ? row->name : std::string(), std::move(endpoint)});
  }
  out.json = document(n, out.members);
  return out;
}

Result<Network> EngineImpl::network_create(const net::NetworkRequest& request) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(Network made, manager->create(request));
  emit({"network", "create", made.id, {{"name", made.name}, {"type", std::string(net::to_string(made.driver))}}});
  return made;
}

Result<std::vector<Engine::NetworkInfo>> EngineImpl::network_list(
    const std::multimap<std::string, std::string>& filters) {
  TRY(check_filters(filters, {"driver", "id", "label", "name", "scope", "type", "dangling"}));
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<Network> networks, manager->networks());
  std::optional<bool> dangling;
  for (auto [it, end] = filters.equal_range("dangling"); it != end; ++it) {
    const bool on = it->second == "true" || it->second == "1";
    if (!on && it->second != "false" && it->second != "0") {
      return errorf(ErrorKind::kInvalid, "invalid filter 'dangling={}'", it->second);
    }
    dangling = on;
  }
  for (auto [it, end] = filters.equal_range("type"); it != end; ++it) {
    if (it->second != "builtin" && it->second != "custom") {
      return errorf(ErrorKind::kInvalid, "invalid filter: 'type'='{}'", it->second);
    }
  }
  std::vector<NetworkInfo> out;
  for (const Network& n : networks) {
    const auto is = [](std::string_view wanted) { return [wanted](const std::string& v) { return v == wanted; }; };
    if (!any_value(filters, "driver", is(net::to_string(n.driver))) || !any_value(filters, "scope", is("local")) ||
        !any_value(filters, "type", is(n.created_ns == 0 ? "builtin" : "custom")) ||
        !any_value(filters, "id", [&](const std::string& v) { return n.id.starts_with(v); }) ||
        !any_value(filters, "name", [&](const std::string& v) { return n.name.find(v) != std::string::npos; }) ||
        !all_values(filters, "label", [&](const std::string& v) { return has_label(n.labels, v); })) {
      continue;
    }
    TRY_ASSIGN(NetworkInfo info, network_info(n));
    if (dangling && *dangling != (n.created_ns != 0 && info.members.empty())) continue;
    info.json = document(n, {});  // a list leaves out who is on it
    out.push_back(std::move(info));
  }
  return out;
}

Result<Engine::NetworkInfo> EngineImpl::network_inspect(std::string_view ref) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const Network n, manager->inspect(ref));
  return network_info(n);
}

Result<void> EngineImpl::network_remove(std::string_view ref) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const Network n, manager->inspect(ref));
  TRY(manager->remove(n.id.empty() ? std::string(ref) : n.id));
  emit({"network", "destroy", n.id, {{"name", n.name}, {"type", std::string(net::to_string(n.driver))}}});
  return {};
}

Result<bool> EngineImpl::is_attached(std::string_view workload_id, std::string_view network_id) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(workload_id));
  return std::any_of(endpoints.begin(), endpoints.end(),
                     [&](const net::Endpoint& one) { return one.attached && one.network_id == network_id; });
}

Result<void> EngineImpl::network_connect(std::string_view network_ref, std::string_view workload,
                                         const NetworkAttachment& asked) {
  TRY_ASSIGN(const WorkloadRow found, find(workload));
  TRY_ASSIGN(const Change change, Change::begin(paths_, found.id));
  TRY_ASSIGN(const WorkloadRow row, find(found.id));
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const Network n, manager->inspect(network_ref));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(Config config, parse_config(json));
  if (n.driver == net::Driver::kHost) {
    return errorf(ErrorKind::kPermission,
                  "container cannot be disconnected from host network or connected to host network");
  }
  if (config.network == "host" || config.network.starts_with("container:")) {
    return errorf(ErrorKind::kConflict,
                  "container sharing network namespace with another container or host cannot be connected to any other "
                  "network");
  }
  if (config.network == "none" || n.driver == net::Driver::kNull) {
    return errorf(ErrorKind::kConflict,
                  "container cannot be connected to multiple networks with one of the networks in private (none) mode");
  }
  const RunState state = read_state(paths_, row.id);
  const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
  // Disconnected from all: joins what it is connected to now, and that alone.
  TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(row.id));
  const bool on_none = row.network.empty() && (!running || endpoints.empty());
  if (on_none) config.network = n.name;
  std::vector<NetworkAttachment> all = on_none ? std::vector<NetworkAttachment>() : attachments(config);
  const auto is_it = [&](const NetworkAttachment& one) { return one.network == n.name; };
  // For one that runs its endpoints count: of an earlier connect or disconnect that was killed one half may be done.
  TRY_ASSIGN(const bool joined, running ? is_attached(row.id, n.id) : Result<bool>(false));
  // One that is attached and not on record was left so by a connect that was killed: it is done anew.
  if ((joined || !running) && std::any_of(all.begin(), all.end(), is_it)) {
    return errorf(ErrorKind::kConflict, "endpoint with name {} already exists in network {}", row.name, n.name);
  }
  std::erase_if(all, is_it);
  NetworkAttachment wanted = asked;
  wanted.network = n.name;
  config.networks = std::move(all);
  config.networks.push_back(std::move(wanted));
  config.ip.clear();
  config.ip6.clear();
  config.network_aliases.clear();
  TRY(validate(config));
  if (running && row.isolation == Isolation::kVm) return machine_is_running(row.name);
  if (running) TRY(connect_running(row, config, config.networks.back(), state.pid));
  return names->set_networks(row.id, to_json(config), joined_networks(config));
}

Result<void> EngineImpl::network_disconnect(std::string_view network_ref, std::string_view workload, bool force) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const Network n, manager->inspect(network_ref));
  if (n.driver == net::Driver::kHost) {
    return errorf(ErrorKind::kPermission,
                  "container cannot be disconnected from host network or connected to host network");
  }
  auto known = find(workload);
  if (!known.ok() && force && known.error().kind() == ErrorKind::kNotFound) {
    // By what the network's records say: the workload itself is no more.
    TRY(manager->disconnect(workload, n.id, -1));
    return net::withdraw_names(dns_place(), n.id, workload);
  }
  if (!known.ok()) return std::move(known).error();
  const WorkloadRow found = std::move(*known);
  TRY_ASSIGN(const Change change, Change::begin(paths_, found.id));
  TRY_ASSIGN(const WorkloadRow row, find(found.id));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(Config config, parse_config(json));
  std::vector<NetworkAttachment> all = attachments(config);
  const RunState state = read_state(paths_, row.id);
  const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
  TRY_ASSIGN(const bool joined, running ? is_attached(row.id, n.id) : Result<bool>(false));
  const size_t removed = std::erase_if(all, [&](const NetworkAttachment& one) { return one.network == n.name; });
  const bool explicitly = std::any_of(config.networks.begin(), config.networks.end(),
                                      [&](const NetworkAttachment& one) { return one.network == n.name; });
  if (!joined && running) ignore_result(manager->disconnect(row.id, n.id, -1));  // reserved by one that was killed
  if (!joined && (removed == 0 || (running && !explicitly))) {
    return errorf(ErrorKind::kConflict, "container {} is not connected to network {}", row.id, n.name);
  }
  if (joined && row.isolation == Isolation::kVm) return machine_is_running(row.name);
  if (joined) TRY(disconnect_running(row, n, state.pid));
  config.networks = std::move(all);
  if (config.network == n.name) config.network = config.networks.empty() ? "bridge" : config.networks.front().network;
  config.ip.clear();
  config.ip6.clear();
  config.network_aliases.clear();
  // Without any it is told apart from one whose only network is its mode's.
  return names->set_networks(row.id, to_json(config), config.networks.empty() ? "" : joined_networks(config));
}

Result<std::vector<std::string>> EngineImpl::network_prune(const std::multimap<std::string, std::string>& filters) {
  TRY(check_filters(filters, {"label", "label!", "until"}));
  std::optional<int64_t> until_ns;
  if (const auto it = filters.find("until"); it != filters.end()) {
    TRY_ASSIGN(until_ns, moment_of(it->second));
  }
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<Network> networks, manager->networks());
  std::vector<std::string> out;
  for (const Network& n : networks) {
    if (n.created_ns == 0 || (until_ns && n.created_ns >= *until_ns)) continue;
    if (!all_values(filters, "label", [&](const std::string& v) { return has_label(n.labels, v); }) ||
        !all_values(filters, "label!", [&](const std::string& v) { return !has_label(n.labels, v); })) {
      continue;
    }
    const auto removed = manager->remove(n.id);
    if (removed.ok()) {
      out.push_back(n.name);
      emit({"network", "destroy", n.id, {{"name", n.name}, {"type", std::string(net::to_string(n.driver))}}});
    } else if (removed.error().kind() != ErrorKind::kConflict && removed.error().kind() != ErrorKind::kNotFound) {
      return removed.error();
    }
  }
  return out;
}

}  // namespace hull::engine
