#include "net/network.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
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
  TRY(validate_interface_name(request.interface_name));
  TRY_ASSIGN(const auto lock, impl_->lock());
  Records& records = *impl_->records;
  TRY_ASSIGN(auto change, records.begin());
  TRY_ASSIGN(const auto existing, records.find(request.workload_id));
  if (existing) {
    return errorf(ErrorKind::kExists, "workload {} is on network {} already", request.workload_id, existing->network);
  }
  TRY_ASSIGN(const Network network, impl_->network());

  Reservation out;
  Endpoint& endpoint = out.endpoint;
  endpoint.workload_id = request.workload_id;
  endpoint.network = network.name;
  endpoint.interface_name = request.interface_name;
  TRY_ASSIGN(endpoint.host_interface, impl_->next_host_interface());
  TRY(impl_->choose_addresses(network, request, endpoint));
  TRY(impl_->choose_ports(request, out));
  TRY(records.insert(endpoint));
  TRY(change.commit());
  return out;
}

Result<Endpoint> NetworkManager::attach(std::string_view workload_id, int netns_fd) {
  struct stat namespace_stat;
  if (::fstat(netns_fd, &namespace_stat) != 0) return errnof("attach workload {}: its network namespace", workload_id);
  Endpoint endpoint;
  Network network;
  Links::Port port;
  bool frame_guard = false;
  {
    TRY_ASSIGN(const auto lock, impl_->lock());
    TRY_ASSIGN(auto found, impl_->records->find(workload_id));
    if (!found) return errorf(ErrorKind::kNotFound, "attach workload {}: nothing is reserved for it", workload_id);
    if (found->attached) return errorf(ErrorKind::kExists, "attach workload {}: it is attached already", workload_id);
    TRY_ASSIGN(network, impl_->network());
    endpoint = std::move(*found);
    Impl::complete(endpoint, network);
    TRY_ASSIGN(port.bridge_index, impl_->ensure_bridge(network));
    TRY(impl_->ensure_rules(network, Impl::Trust::kGeneration));
    TRY_ASSIGN(frame_guard, impl_->has_frame_guard());
  }
  port.mtu = network.mtu;
  const BridgeFilters filters = bridge_filters();
  port.hairpin = filters.v4 || filters.v6;
  TRY_ASSIGN(Links * links, impl_->links());
  TRY_ASSIGN(const uint32_t index, links->connect(endpoint, netns_fd, port));
  auto finished = impl_->finish_attach(endpoint, network, netns_fd, frame_guard);
  if (finished.ok()) finished = links->settle(index, port.bridge_index);
  if (!finished.ok()) {
    ignore_result(links->disconnect(endpoint, port.bridge_index));
    ignore_result(links->remove(index));
    return std::move(finished).error();
  }
  endpoint.attached = true;
  return endpoint;
}

Result<void> Impl::finish_attach(const Endpoint& endpoint, const Network& network, int netns_fd, bool frame_guard) {
  const MacAddress gateway_mac = MacAddress::derived_from(network.gateway4);
  TRY_ASSIGN(const int home, home_netns());
  {
    TRY_ASSIGN(const auto inside, sys::ScopedNetns::enter(netns_fd, home));
    TRY_ASSIGN(Links links, Links::open());
    TRY(links.configure_inside(endpoint, gateway_mac, !frame_guard));
  }
  TRY_ASSIGN(const auto guard, lock());
  TRY_ASSIGN(auto change, records->begin());
  TRY_ASSIGN(const auto still, records->find(endpoint.workload_id));
  if (!still)
    return errorf(ErrorKind::kConflict, "attach workload {}: it was detached meanwhile", endpoint.workload_id);
  TRY(records->set_attached(endpoint.workload_id, true));
  TRY(add_rules(endpoint, network));
  return change.commit();
}

Result<void> NetworkManager::detach(std::string_view workload_id) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(auto found, impl_->records->find(workload_id));
  if (!found) return {};
  TRY_ASSIGN(const Network network, impl_->network());
  TRY_ASSIGN(Links * links, impl_->links());
  TRY_ASSIGN(const auto bridge, links->find(network.bridge_device));
  return impl_->detach(*found, network, bridge ? bridge->index : 0);
}

Result<void> Impl::detach(Endpoint& endpoint, const Network& network, uint32_t bridge_index) {
  complete(endpoint, network);
  TRY_ASSIGN(Links * host_links, links());
  TRY(host_links->disconnect(endpoint, bridge_index));
  TRY_ASSIGN(auto change, records->begin());
  TRY(records->erase(endpoint.workload_id));
  TRY(remove_rules(endpoint, network));
  return change.commit();
}

Result<void> NetworkManager::loopback_up(int netns_fd) {
  TRY_ASSIGN(const auto inside, sys::ScopedNetns::enter(netns_fd));
  return bring_loopback_up();
}

Result<RepairReport> NetworkManager::repair(const std::function<bool(std::string_view)>& alive) {
  RepairReport out;
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(const Network network, impl_->network());
  TRY_ASSIGN(Links * links, impl_->links());
  TRY_ASSIGN(auto bridge, links->find(network.bridge_device));
  TRY_ASSIGN(auto endpoints, impl_->records->list());
  std::set<std::string> wanted_links;
  std::set<IpAddress> wanted_addresses;
  for (Endpoint& endpoint : endpoints) {
    if (!alive(endpoint.workload_id)) {
      TRY(impl_->detach(endpoint, network, bridge ? bridge->index : 0));
      ++out.endpoints_freed;
      continue;
    }
    wanted_links.insert(endpoint.host_interface);
    wanted_addresses.insert(endpoint.ipv4);
    if (endpoint.ipv6) wanted_addresses.insert(*endpoint.ipv6);
  }
  if (!bridge && wanted_links.empty()) return out;
  TRY_ASSIGN(const uint32_t bridge_index, impl_->ensure_bridge(network));
  TRY_ASSIGN(const auto ports, links->ports_of(bridge_index));
  std::vector<uint32_t> stray;
  for (const LinkInfo& link : ports) {
    if (link.name.starts_with(kHostInterfacePrefix) && !wanted_links.contains(link.name)) stray.push_back(link.index);
  }
  TRY(links->remove(stray));
  out.links_removed = static_cast<unsigned>(stray.size());
  TRY_ASSIGN(out.neighbours_removed, links->sweep_neighbours(bridge_index, [&](const IpAddress& address) {
    return wanted_addresses.contains(address) || address.is_multicast();
  }));
  TRY_ASSIGN(out.rules_restored, impl_->ensure_rules(network, Impl::Trust::kNothing));
  TRY(enable_forwarding(network.subnet6.has_value()));
  return out;
}

Result<std::vector<Endpoint>> NetworkManager::list() {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(const Network network, impl_->network());
  TRY_ASSIGN(auto out, impl_->records->list());
  for (Endpoint& endpoint : out) Impl::complete(endpoint, network);
  return out;
}

Result<Endpoint> NetworkManager::find(std::string_view workload_id) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(auto found, impl_->records->find(workload_id));
  if (!found) return errorf(ErrorKind::kNotFound, "workload {} is on no network", workload_id);
  TRY_ASSIGN(const Network network, impl_->network());
  Impl::complete(*found, network);
  return std::move(*found);
}

Result<void> NetworkManager::tear_down() {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(const size_t users, impl_->records->count());
  if (users != 0) {
    return errorf(ErrorKind::kConflict, "remove network {}: {} workloads are on it; remove them first", kDefaultNetwork,
                  users);
  }
  TRY_ASSIGN(Links * links, impl_->links());
  TRY_ASSIGN(const auto bridge, links->find(impl_->settings.bridge_device));
  if (bridge && bridge->alias.starts_with(impl_->alias_prefix())) TRY(links->remove(bridge->index));
  TRY_ASSIGN(Ruleset * rules, impl_->ruleset());
  return rules->tear_down();
}

}  // namespace hull::net
