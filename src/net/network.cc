#include "net/network.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "base/error_format.h"
#include "net/manager.h"
#include "sys/netns.h"

namespace hull::net {

using Impl = NetworkManager::Impl;

NetworkManager::NetworkManager(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetworkManager::NetworkManager(NetworkManager&&) noexcept = default;
NetworkManager& NetworkManager::operator=(NetworkManager&&) noexcept = default;
NetworkManager::~NetworkManager() = default;

namespace {

Result<void> validate_workload_id(std::string_view id) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-'; };
  if (id.empty() || id.size() > 128 || !std::all_of(id.begin(), id.end(), fits)) {
    return errorf(ErrorKind::kInvalid, "network: '{}' is no workload id", id.substr(0, 40));
  }
  return {};
}

}  // namespace

Result<void> validate_interface_name(std::string_view name) {
  const auto bad = [](unsigned char c) { return c == '/' || c == ':' || c == '%' || std::isspace(c) != 0 || c < 0x20; };
  if (name.empty() || name.size() > 15 || name == "." || name == ".." || name == "lo" ||
      std::any_of(name.begin(), name.end(), bad)) {
    return errorf(ErrorKind::kInvalid, "network: '{}' can't be the name of an interface", name.substr(0, 40));
  }
  return {};
}

Result<NetworkManager> NetworkManager::open(const NetPaths& paths, const NetSettings& settings) {
  TRY(validate_interface_name(settings.bridge_device));
  if (settings.mtu < 1280 || settings.mtu > 65535) {
    return errorf(ErrorKind::kInvalid, "network.mtu {}: 1280 to 65535 are possible (IPv6 needs 1280)", settings.mtu);
  }
  TRY(sys::make_dirs(paths.data_dir));
  TRY(sys::make_dirs(paths.run_dir));
  auto impl = std::make_unique<Impl>();
  impl->paths = paths;
  impl->settings = settings;
  TRY_ASSIGN(const std::string boot_id, sys::read_file("/proc/sys/kernel/random/boot_id", 64));
  TRY_ASSIGN(const auto lock, impl->lock());
  TRY_ASSIGN(auto records, Records::open(paths.run_dir + "/records.db", boot_id));
  impl->records.emplace(std::move(records));
  return NetworkManager(std::move(impl));
}

Result<Reservation> NetworkManager::reserve(const ReserveRequest& request) {
  TRY(validate_workload_id(request.workload_id));
  TRY_ASSIGN(const auto lock, impl_->lock());
  Records& records = *impl_->records;
  TRY_ASSIGN(auto change, records.begin());
  TRY_ASSIGN(auto all, records.find(request.workload_id));
  TRY(impl_->complete(all));
  const size_t before = all.size();
  std::vector<EndpointRequest> wanted = request.endpoints;
  if (wanted.empty()) wanted.emplace_back();
  std::map<std::string, Network> networks;
  for (const EndpointRequest& one : wanted) {
    TRY_ASSIGN(Network network, impl_->find_network(one.network));
    if (network.driver == Driver::kHost || network.driver == Driver::kNull) {
      return errorf(ErrorKind::kInvalid, "network {}: no workload gets an interface on it", network.name);
    }
    for (const Endpoint& other : all) {
      if (other.network_id == network.id) {
        return errorf(ErrorKind::kExists, "workload {} is on network {} already", request.workload_id, network.name);
      }
    }
    TRY_ASSIGN(Endpoint endpoint, impl_->choose_endpoint(network, one, request.workload_id, all));
    TRY(records.insert(endpoint));
    all.push_back(std::move(endpoint));
    networks.emplace(network.id, std::move(network));
  }
  Reservation out;
  std::vector<const Endpoint*> candidates;
  for (const Endpoint& one : all) candidates.push_back(&one);
  const Endpoint* const gateway = choose_gateway(candidates);
  if (gateway != nullptr && gateway->driver == Driver::kBridge && !request.ports.empty()) {
    const auto network = networks.find(gateway->network_id);
    if (network == networks.end()) {
      TRY_ASSIGN(const Network other, impl_->network_of(gateway->network_id));
      TRY(impl_->choose_ports(request, other, *gateway, out));
    } else {
      TRY(impl_->choose_ports(request, network->second, *gateway, out));
    }
    TRY(records.insert(request.workload_id, out.ports));
  }
  if (request.has_keeper) {
    TRY_ASSIGN(out.rules, impl_->socket_for_keeper(request.workload_id));
  }
  TRY(change.commit());
  out.endpoints.assign(std::make_move_iterator(all.begin() + static_cast<ptrdiff_t>(before)),
                       std::make_move_iterator(all.end()));
  return out;
}

Result<std::vector<Endpoint>> NetworkManager::attach(std::string_view workload_id, int netns_fd, const Keeper& keeper) {
  struct stat namespace_stat;
  if (::fstat(netns_fd, &namespace_stat) != 0) return errnof("attach workload {}: its network namespace", workload_id);
  std::vector<Impl::Attaching> wanted;
  bool frame_guard = false;
  bool kept = false;
  {
    TRY_ASSIGN(const auto lock, impl_->lock());
    if (keeper.pid != 0) {
      TRY_ASSIGN(kept, impl_->own_rules_by(keeper));
    }
    TRY_ASSIGN(auto all, impl_->records->find(workload_id));
    if (all.empty()) return errorf(ErrorKind::kNotFound, "attach workload {}: nothing is reserved for it", workload_id);
    TRY(impl_->complete(all));
    std::vector<const Endpoint*> candidates;
    for (const Endpoint& one : all) candidates.push_back(&one);
    const Endpoint* const gateway = choose_gateway(candidates);
    for (Endpoint& one : all) {
      one.gateway = &one == gateway;
      if (one.attached) continue;
      Impl::Attaching& next = wanted.emplace_back();
      TRY_ASSIGN(next.network, impl_->network_of(one.network_id));
      if (next.network.driver == Driver::kBridge) {
        TRY_ASSIGN(next.device, impl_->ensure_bridge(next.network));
        TRY(impl_->ensure_rules(Impl::Trust::kGeneration));
        TRY(impl_->activate(next.network));
      } else {
        TRY_ASSIGN(next.device, impl_->ensure_parent(next.network));
      }
      next.endpoint = std::move(one);
    }
    if (wanted.empty()) return errorf(ErrorKind::kExists, "attach workload {}: it is attached already", workload_id);
    TRY_ASSIGN(frame_guard, impl_->has_frame_guard());
  }
  Result<void> done;
  size_t count = 0;
  for (; count < wanted.size() && done.ok(); ++count) done = impl_->attach_one(wanted[count], netns_fd, frame_guard);
  if (done.ok()) done = impl_->finish_attach(wanted, kept ? keeper : Keeper());
  if (!done.ok()) {
    for (size_t i = 0; i < count; ++i) impl_->undo(wanted[i]);
    return std::move(done).error();
  }
  std::vector<Endpoint> out;
  for (Impl::Attaching& one : wanted) {
    one.endpoint.attached = true;
    out.push_back(std::move(one.endpoint));
  }
  return out;
}

Result<void> Impl::attach_one(Attaching& one, int netns_fd, bool frame_guard) {
  TRY_ASSIGN(Links * host, links());
  if (one.network.driver != Driver::kBridge) {
    TRY(host->connect_stacked(one.endpoint, one.network, netns_fd, one.device));
    return configure(one, netns_fd, true);
  }
  Links::Port port;
  port.bridge_index = one.device;
  port.mtu = one.network.mtu;
  port.isolated = !one.network.between;
  const BridgeFilters filters = bridge_filters();
  port.hairpin = filters.v4 || filters.v6;
  TRY_ASSIGN(one.link, host->connect(one.endpoint, netns_fd, port));
  TRY(configure(one, netns_fd, frame_guard));
  return host->settle(one.link, one.device);
}

Result<void> Impl::configure(const Attaching& one, int netns_fd, bool frame_guard) {
  const bool bridge = one.network.driver == Driver::kBridge;
  Links::Inside inside;
  if (bridge) inside.gateway_mac = MacAddress::derived_from(one.network.gateway4);
  inside.hush = bridge && !frame_guard;
  inside.default_route = one.endpoint.gateway;
  inside.by_device = one.network.driver == Driver::kIpvlan && one.network.mode != "l2";
  TRY_ASSIGN(const int home, home_netns());
  TRY_ASSIGN(const auto entered, sys::ScopedNetns::enter(netns_fd, home));
  TRY_ASSIGN(Links links, Links::open());
  return links.configure_inside(one.endpoint, inside);
}

void Impl::undo(const Attaching& one) {
  auto host = links();
  if (!host.ok() || one.link == 0) return;
  ignore_result((*host)->disconnect(one.endpoint, one.device));
  ignore_result((*host)->remove(one.link));
}

Result<void> Impl::finish_attach(const std::vector<Attaching>& attached, const Keeper& keeper) {
  TRY_ASSIGN(const auto guard, lock());
  TRY_ASSIGN(auto change, records->begin());
  const std::string& workload = attached.front().endpoint.workload_id;
  if (keeper.pid != 0) TRY(keep_rules_by({workload, keeper.pid, keeper.fd}));
  TRY_ASSIGN(auto all, records->find(workload));
  TRY(complete(all));
  const auto is_new = [&](const Endpoint& one) {
    return std::any_of(attached.begin(), attached.end(),
                       [&](const Attaching& other) { return other.endpoint.network_id == one.network_id; });
  };
  const bool gateway_changes =
      std::any_of(attached.begin(), attached.end(), [](const Attaching& one) { return one.endpoint.gateway; });
  for (const Endpoint& one : all) {
    if (is_new(one) || !one.gateway || !gateway_changes) continue;
    TRY(remove_rules(one));  // published ports pass to the new one
    TRY(records->set_attached(one, one.attached, false));
  }
  for (const Attaching& one : attached) {
    if (std::none_of(all.begin(), all.end(),
                     [&](const Endpoint& other) { return other.network_id == one.endpoint.network_id; })) {
      return errorf(ErrorKind::kConflict, "attach workload {}: it was detached meanwhile", workload);
    }
    TRY(records->set_attached(one.endpoint, true, one.endpoint.gateway));
    if (!one.endpoint.gateway) continue;
    Endpoint gateway = one.endpoint;
    TRY_ASSIGN(gateway.ports, records->ports_of(workload));
    TRY(add_rules(gateway));
  }
  return change.commit();
}

Result<void> NetworkManager::detach(std::string_view workload_id) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(auto all, impl_->records->find(workload_id));
  if (all.empty()) return {};
  TRY(impl_->complete(all));
  return impl_->detach(all);
}

Result<void> Impl::detach(const std::vector<Endpoint>& endpoints) {
  TRY_ASSIGN(Links * host, links());
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.driver != Driver::kBridge) continue;  // it goes with its namespace
    TRY_ASSIGN(const Network network, network_of(endpoint.network_id));
    TRY_ASSIGN(const auto bridge, host->find(network.bridge_device));
    TRY(host->disconnect(endpoint, bridge ? bridge->index : 0));
  }
  TRY_ASSIGN(auto change, records->begin());
  TRY(records->erase(endpoints.front().workload_id));
  for (const Endpoint& endpoint : endpoints) TRY(remove_rules(endpoint));
  return change.commit();
}

Result<void> NetworkManager::disconnect(std::string_view workload_id, std::string_view network_ref, int netns_fd) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(const Network network, impl_->find_network(network_ref));
  TRY_ASSIGN(auto all, impl_->records->find(workload_id));
  TRY(impl_->complete(all));
  const auto it =
      std::find_if(all.begin(), all.end(), [&](const Endpoint& one) { return one.network_id == network.id; });
  if (it == all.end()) {
    return errorf(ErrorKind::kNotFound, "container {} is not connected to network {}", workload_id, network.name);
  }
  const Endpoint endpoint = *it;
  all.erase(it);
  TRY_ASSIGN(Links * host, impl_->links());
  TRY_ASSIGN(const int home, impl_->home_netns());
  if (network.driver == Driver::kBridge) {
    TRY_ASSIGN(const auto bridge, host->find(network.bridge_device));
    TRY(host->disconnect(endpoint, bridge ? bridge->index : 0));
    TRY_ASSIGN(const auto port, host->find(endpoint.host_interface));
    if (port) TRY(host->remove(port->index));
  } else if (netns_fd >= 0) {
    TRY_ASSIGN(const auto entered, sys::ScopedNetns::enter(netns_fd, home));
    TRY_ASSIGN(Links inside, Links::open());
    TRY_ASSIGN(const auto link, inside.find(endpoint.interface_name));
    if (link) TRY(inside.remove(link->index));
  }
  TRY_ASSIGN(auto change, impl_->records->begin());
  TRY(impl_->records->erase(workload_id, network.id));
  TRY(impl_->remove_rules(endpoint));
  std::vector<const Endpoint*> candidates;
  for (const Endpoint& one : all) {
    if (one.attached) candidates.push_back(&one);
  }
  const Endpoint* const next = choose_gateway(candidates);
  if (endpoint.gateway && next != nullptr) {
    Endpoint gateway = *next;
    gateway.gateway = true;
    TRY_ASSIGN(gateway.ports, impl_->records->ports_of(workload_id));
    TRY_ASSIGN(const Network its, impl_->network_of(gateway.network_id));
    if (netns_fd >= 0) {
      TRY_ASSIGN(const auto entered, sys::ScopedNetns::enter(netns_fd, home));
      TRY_ASSIGN(Links inside, Links::open());
      TRY(inside.set_default_route(gateway, its.driver == Driver::kIpvlan && its.mode != "l2"));
    }
    TRY(impl_->records->set_attached(gateway, true, true));
    TRY(impl_->add_rules(gateway));
  }
  return change.commit();
}

Result<void> NetworkManager::loopback_up(int netns_fd) {
  TRY_ASSIGN(const auto inside, sys::ScopedNetns::enter(netns_fd));
  return bring_loopback_up();
}

Result<void> Impl::repair_bridge(const Network& network, const std::vector<Endpoint>& endpoints, RepairReport& out) {
  TRY_ASSIGN(Links * host, links());
  TRY_ASSIGN(auto bridge, host->find(network.bridge_device));
  std::set<std::string> wanted_links;
  std::set<IpAddress> wanted_addresses;
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.network_id != network.id) continue;
    wanted_links.insert(endpoint.host_interface);
    wanted_addresses.insert(endpoint.ipv4);
    if (endpoint.ipv6) wanted_addresses.insert(*endpoint.ipv6);
  }
  if (!bridge && wanted_links.empty() && network.is_default()) return {};
  TRY_ASSIGN(const uint32_t bridge_index, ensure_bridge(network));
  TRY_ASSIGN(const auto ports, host->ports_of(bridge_index));
  std::vector<uint32_t> stray;
  for (const LinkInfo& link : ports) {
    if (link.name.starts_with(kHostInterfacePrefix) && !wanted_links.contains(link.name)) stray.push_back(link.index);
  }
  TRY(host->remove(stray));
  out.links_removed += static_cast<unsigned>(stray.size());
  TRY_ASSIGN(const unsigned removed, host->sweep_neighbours(bridge_index, [&](const IpAddress& address) {
    return wanted_addresses.contains(address) || address.is_multicast();
  }));
  out.neighbours_removed += removed;
  return activate(network);
}

Result<RepairReport> NetworkManager::repair(const std::function<bool(std::string_view)>& alive) {
  RepairReport out;
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(auto all, impl_->records->list());
  TRY(impl_->complete(all));
  std::map<std::string, std::vector<Endpoint>> gone;
  std::vector<Endpoint> living;
  for (Endpoint& endpoint : all) {
    if (alive(endpoint.workload_id)) {
      living.push_back(std::move(endpoint));
    } else {
      gone[endpoint.workload_id].push_back(endpoint);
    }
  }
  for (const auto& [workload, endpoints] : gone) {
    TRY(impl_->detach(endpoints));
    out.endpoints_freed += static_cast<unsigned>(endpoints.size());
  }
  TRY_ASSIGN(const Network first, impl_->network());
  TRY_ASSIGN(auto networks, impl_->user_networks());
  networks.insert(networks.begin(), first);
  TRY_ASSIGN(Links * links, impl_->links());
  bool any_bridge = false;
  for (const Network& network : networks) {
    if (network.driver != Driver::kBridge) continue;
    TRY(impl_->repair_bridge(network, living, out));
    TRY_ASSIGN(const auto bridge, links->find(network.bridge_device));
    any_bridge = any_bridge || bridge;
  }
  if (!any_bridge) return out;
  TRY_ASSIGN(out.rules_restored, impl_->ensure_rules(Impl::Trust::kNothing));
  TRY(enable_forwarding(first.subnet6.has_value()));
  return out;
}

Result<std::vector<Endpoint>> NetworkManager::list(std::string_view network_id) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(auto out, network_id.empty() ? impl_->records->list() : impl_->records->list(network_id));
  TRY(impl_->complete(out));
  return out;
}

Result<std::vector<Endpoint>> NetworkManager::find(std::string_view workload_id) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(auto out, impl_->records->find(workload_id));
  TRY(impl_->complete(out));
  return out;
}

Result<void> NetworkManager::tear_down() {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(const size_t users, impl_->records->count());
  if (users != 0) {
    return errorf(ErrorKind::kConflict,
                  "remove the networks' devices: {} endpoints are there; stop the workloads first", users);
  }
  TRY_ASSIGN(Links * links, impl_->links());
  TRY_ASSIGN(const auto made, impl_->user_networks());
  for (const Network& network : made) TRY(impl_->remove_device(network));
  TRY_ASSIGN(const auto bridge, links->find(impl_->settings.bridge_device));
  if (bridge && bridge->alias.starts_with(impl_->alias_prefix())) TRY(links->remove(bridge->index));
  return impl_->write_rules([](Ruleset& rules) { return rules.tear_down(); });
}

}  // namespace hull::net
