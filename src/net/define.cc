// Making, finding and removing networks.
#include <sys/random.h>

#include <algorithm>
#include <chrono>

#include "base/error_format.h"
#include "net/manager.h"

namespace hull::net {

using Impl = NetworkManager::Impl;

namespace {

// The three that are always there; every name of them is taken.
constexpr std::string_view kHostNetwork = "host", kNoNetwork = "none";

Network pseudo_network(std::string_view name, Driver driver) {
  Network out;
  out.name = name;
  out.id = default_network_id(name);
  out.driver = driver;
  return out;
}

bool refers_to(std::string_view ref, const Network& network) {
  return ref == network.name || (ref.size() >= 4 && network.id.starts_with(ref));
}

bool is_reserved(std::string_view name) {
  return name == kDefaultNetwork || name == "default" || name == kHostNetwork || name == kNoNetwork;
}

// Docker's rule for names.
Result<void> check_name(std::string_view name) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  const auto fits = [&](char c) { return alnum(c) || c == '_' || c == '.' || c == '-'; };
  if (name.empty() || name.size() > 128 || !alnum(name.front()) || !std::all_of(name.begin(), name.end(), fits)) {
    return errorf(ErrorKind::kInvalid,
                  "invalid network name \"{:.80}\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 128", name);
  }
  if (is_reserved(name)) {
    return errorf(ErrorKind::kPermission, "operation is not permitted on predefined {} network", name);
  }
  return {};
}

Result<std::string> random_network_id() {
  std::array<uint8_t, 32> bytes;
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return errnof("draw the id of a network");
  }
  std::string out;
  for (const uint8_t byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

Result<void> check_prefix(const Subnet& subnet) {
  const unsigned least = subnet.family() == Family::kV4 ? 8 : 16;
  const unsigned most = subnet.family() == Family::kV4 ? 30 : 120;
  if (subnet.prefix_length() >= least && subnet.prefix_length() <= most) return {};
  return errorf(ErrorKind::kInvalid, "subnet {}: a prefix length from {} to {} is meant", subnet.str(), least, most);
}

// Gateway, range and taken addresses of one pool, into the network.
Result<void> apply_pool(const IpamPool& pool, const Subnet& subnet, Network& network) {
  if (pool.gateway && (!subnet.contains(*pool.gateway) || *pool.gateway == subnet.base() ||
                       (pool.gateway->is_v4() && *pool.gateway == subnet.last()))) {
    return errorf(ErrorKind::kInvalid, "gateway {}: no address of a host in the subnet {}", pool.gateway->str(),
                  subnet.str());
  }
  if (pool.range && (pool.range->family() != subnet.family() || !subnet.contains(pool.range->base()) ||
                     pool.range->prefix_length() < subnet.prefix_length())) {
    return errorf(ErrorKind::kInvalid, "ip-range {}: not inside the subnet {}", pool.range->str(), subnet.str());
  }
  const IpAddress gateway = pool.gateway.value_or(subnet.base().plus(1));
  for (const auto& [name, address] : pool.taken) {
    if (!subnet.contains(address)) {
      return errorf(ErrorKind::kInvalid, "aux-address {}={}: not inside the subnet {}", name, address.str(),
                    subnet.str());
    }
    if (address == gateway) {
      return errorf(ErrorKind::kConflict, "aux-address {}={}: it is the gateway", name, address.str());
    }
    if (!network.taken.emplace(name, address).second) {
      return errorf(ErrorKind::kInvalid, "aux-address {}: given twice", name);
    }
  }
  if (subnet.family() == Family::kV4) {
    network.subnet4 = subnet;
    network.gateway4 = gateway;
    network.range4 = pool.range;
  } else {
    network.subnet6 = subnet;
    network.gateway6 = gateway;
    network.range6 = pool.range;
  }
  return {};
}

Family family_of(const IpamPool& pool) {
  if (pool.subnet) return pool.subnet->family();
  if (pool.gateway) return pool.gateway->family();
  return pool.range ? pool.range->family() : Family::kV4;
}

}  // namespace

std::string_view to_string(Driver driver) {
  switch (driver) {
    case Driver::kBridge:
      return "bridge";
    case Driver::kMacvlan:
      return "macvlan";
    case Driver::kIpvlan:
      return "ipvlan";
    case Driver::kHost:
      return "host";
    case Driver::kNull:
      return "null";
  }
  return "";
}

std::string default_network_id(std::string_view name) {
  // FNV-1a over the name and a counter: an id to tell networks apart by, not a secret.
  std::string id;
  for (uint64_t part = 0; part < 4; ++part) {
    uint64_t hash = 0xcbf29ce484222325 + part;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    id += fmt::format("{:016x}", hash);
  }
  return id;
}

Result<Definitions*> Impl::definitions(bool make) {
  if (!definitions_) {
    const std::string path = paths.data_dir + "/networks.db";
    if (!make && !Definitions::exist(path)) return nullptr;
    TRY_ASSIGN(auto opened, Definitions::open(path));
    definitions_.emplace(std::move(opened));
  }
  return &*definitions_;
}

Result<std::vector<Network>> Impl::user_networks() {
  TRY_ASSIGN(Definitions* const store, definitions(false));
  if (store == nullptr) return std::vector<Network>();
  return store->list();
}

Result<Network> Impl::find_network(std::string_view ref) {
  if (ref.empty() || ref == kDefaultNetwork || ref == "default") return network();
  for (const auto& [name, driver] : {std::pair(kHostNetwork, Driver::kHost), std::pair(kNoNetwork, Driver::kNull)}) {
    if (ref == name) return pseudo_network(name, driver);
  }
  TRY_ASSIGN(Definitions* const store, definitions(false));
  if (store != nullptr) {
    TRY_ASSIGN(auto found, store->find(ref));
    if (found) return std::move(*found);
  }
  for (const auto& [name, driver] : {std::pair(kHostNetwork, Driver::kHost), std::pair(kNoNetwork, Driver::kNull)}) {
    if (const Network one = pseudo_network(name, driver); refers_to(ref, one)) return one;
  }
  if (ref.size() >= 4 && default_network_id(kDefaultNetwork).starts_with(ref)) return network();
  return errorf(ErrorKind::kNotFound, "network {:.128} not found", ref);
}

Result<void> Impl::choose_subnets(const NetworkRequest& request, Network& n) {
  std::optional<IpamPool> pool4, pool6;
  for (const IpamPool& pool : request.pools) {
    if (!pool.subnet && (pool.range || pool.gateway || !pool.taken.empty())) {
      return errorf(ErrorKind::kInvalid, "network {}: no matching subnet for {}; give --subnet", n.name,
                    pool.gateway ? "gateway " + pool.gateway->str()
                    : pool.range ? "range " + pool.range->str()
                                 : std::string("aux-address"));
    }
    std::optional<IpamPool>& place = family_of(pool) == Family::kV4 ? pool4 : pool6;
    if (place) {
      return errorf(ErrorKind::kInvalid, "network {}: the driver {} takes one subnet of each family", n.name,
                    to_string(n.driver));
    }
    if (pool.subnet) TRY(check_prefix(*pool.subnet));
    place = pool;
  }
  if (pool6 && !request.ipv6) {
    return errorf(ErrorKind::kInvalid, "network {}: subnet {} needs --ipv6", n.name, pool6->subnet->str());
  }
  TRY_ASSIGN(Links * host, links());
  TRY_ASSIGN(const auto others, user_networks());
  TRY_ASSIGN(const Network first, network());
  std::vector<Subnet> avoid{first.subnet4};
  if (first.subnet6) avoid.push_back(*first.subnet6);
  for (const Network& other : others) {
    avoid.push_back(other.subnet4);
    if (other.subnet6) avoid.push_back(*other.subnet6);
  }
  const auto check_free = [&](const Subnet& subnet) -> Result<void> {
    for (const Subnet& other : avoid) {
      if (!other.overlaps(subnet)) continue;
      return errorf(ErrorKind::kConflict,
                    "invalid pool request: Pool overlaps with other one on this address space ({} with {})",
                    subnet.str(), other.str());
    }
    // The subnet of a parent interface is the host's own; a wider route (a VPN's) is one that the user knows of.
    if (n.driver != Driver::kBridge) return {};
    TRY_ASSIGN(const auto routes, host->routes(subnet.family()));
    for (const RouteInfo& route : routes) {
      if (subnet.contains(route.destination.base()) && route.destination.prefix_length() >= subnet.prefix_length()) {
        return errorf(ErrorKind::kConflict, "subnet {}: overlaps the route {} of this host", subnet.str(),
                      route.destination.str());
      }
    }
    return {};
  };
  if (pool4 && pool4->subnet) {
    TRY(check_free(*pool4->subnet));
    TRY(apply_pool(*pool4, *pool4->subnet, n));
  } else {
    TRY_ASSIGN(const Subnet chosen, choose_subnet4(*host, avoid));
    TRY(apply_pool(pool4.value_or(IpamPool()), chosen, n));
  }
  if (!request.ipv6) return {};
  if (!host_has_ipv6()) {
    return errorf(ErrorKind::kUnsupported, "network {}: this host has no IPv6 (net.ipv6.conf.default.disable_ipv6)",
                  n.name);
  }
  if (pool6 && pool6->subnet) {
    TRY(check_free(*pool6->subnet));
    return apply_pool(*pool6, *pool6->subnet, n);
  }
  TRY_ASSIGN(const Subnet chosen, random_subnet6());
  return apply_pool(pool6.value_or(IpamPool()), chosen, n);
}

Result<void> Impl::check_devices(const Network& n) {
  TRY_ASSIGN(const auto others, user_networks());
  for (const Network& other : others) {
    if (!n.bridge_device.empty() && other.bridge_device == n.bridge_device) {
      return errorf(ErrorKind::kConflict,
                    "cannot create network {} ({}): conflicts with network {} ({}): networks have same bridge name",
                    n.id, n.bridge_device, other.id, other.bridge_device);
    }
    const bool stacked = n.driver == Driver::kMacvlan || n.driver == Driver::kIpvlan;
    if (stacked && other.parent == n.parent && !n.parent.empty()) {
      return errorf(ErrorKind::kConflict, "network {} is already using parent interface {}", other.name, n.parent);
    }
  }
  if (n.bridge_device == settings.bridge_device) {
    return errorf(ErrorKind::kConflict, "network {}: {} is the device of the default bridge", n.name, n.bridge_device);
  }
  return {};
}

Result<Network> NetworkManager::create(const NetworkRequest& request) {
  TRY(check_name(request.name));
  Network n;
  n.name = request.name;
  if (request.driver == "bridge" || request.driver.empty()) {
    n.driver = Driver::kBridge;
  } else if (request.driver == "macvlan") {
    n.driver = Driver::kMacvlan;
  } else if (request.driver == "ipvlan") {
    n.driver = Driver::kIpvlan;
  } else if (request.driver == "host" || request.driver == "null") {
    return errorf(ErrorKind::kPermission, "only one instance of \"{}\" network is allowed", request.driver);
  } else if (request.driver == "overlay") {
    return errorf(ErrorKind::kUnavailable, "network driver overlay: this node is not a swarm manager");
  } else {
    return errorf(ErrorKind::kNotFound,
                  "could not find plugin {:.80} in v1 plugin registry: there are bridge, macvlan "
                  "and ipvlan",
                  request.driver);
  }
  if (!request.ipam_driver.empty() && request.ipam_driver != "default") {
    return errorf(ErrorKind::kUnsupported, "IPAM driver {:.80}: there is default", request.ipam_driver);
  }
  if (!request.ipam_options.empty()) {
    return errorf(ErrorKind::kInvalid, "IPAM option {:.80}: the driver default has none",
                  request.ipam_options.begin()->first);
  }
  if (!request.ipv4) {
    return errorf(ErrorKind::kUnsupported, "network {}: every network has IPv4 (--ipv4=false)", n.name);
  }
  n.internal = request.internal;
  n.attachable = request.attachable;
  n.options = request.options;
  n.labels = request.labels;
  n.mtu = impl_->settings.mtu;
  n.created_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  TRY_ASSIGN(n.id, random_network_id());
  TRY(apply_options(n));
  if (n.driver == Driver::kBridge) {
    if (n.bridge_device.empty()) n.bridge_device = "br-" + n.id.substr(0, 12);
    TRY(validate_interface_name(n.bridge_device));
  } else {
    TRY(impl_->name_parent(n));
  }

  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(Definitions* const store, impl_->definitions(true));
  TRY_ASSIGN(const auto others, store->list());
  for (const Network& other : others) {
    if (other.name == n.name) return errorf(ErrorKind::kExists, "network with name {} already exists", n.name);
  }
  TRY(impl_->check_devices(n));
  TRY(impl_->choose_subnets(request, n));
  // Written down first: what a kill leaves is a network without its device, which the next attach makes.
  TRY(store->add(n));
  auto ready = impl_->ensure_device(n);
  if (!ready.ok()) {
    ignore_result(impl_->remove_device(n));
    ignore_result(store->remove(n.id));
    return std::move(ready).error();
  }
  return n;
}

Result<std::vector<Network>> NetworkManager::networks() {
  TRY_ASSIGN(const auto lock, impl_->lock());
  std::vector<Network> out;
  TRY_ASSIGN(out.emplace_back(), impl_->network());
  out.push_back(pseudo_network(kHostNetwork, Driver::kHost));
  out.push_back(pseudo_network(kNoNetwork, Driver::kNull));
  TRY_ASSIGN(auto made, impl_->user_networks());
  std::move(made.begin(), made.end(), std::back_inserter(out));
  return out;
}

Result<Network> NetworkManager::inspect(std::string_view ref) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  return impl_->find_network(ref);
}

Result<void> NetworkManager::remove(std::string_view ref) {
  TRY_ASSIGN(const auto lock, impl_->lock());
  TRY_ASSIGN(const Network n, impl_->find_network(ref));
  if (n.created_ns == 0) {
    return errorf(ErrorKind::kPermission, "{} is a pre-defined network and cannot be removed", n.name);
  }
  TRY_ASSIGN(const auto endpoints, impl_->records->list(n.id));
  if (!endpoints.empty()) {
    std::string who;
    for (size_t i = 0; i < std::min<size_t>(endpoints.size(), 8); ++i) {
      who += fmt::format("{}{:.12}", i == 0 ? "" : ", ", endpoints[i].workload_id);
    }
    return errorf(ErrorKind::kConflict, "error while removing network: network {} has active endpoints ({})", n.name,
                  who);
  }
  // The device first: a kill in between leaves a network without its device, which can be removed again.
  TRY(impl_->remove_device(n));
  TRY_ASSIGN(Definitions* const store, impl_->definitions(false));
  return store == nullptr ? Result<void>() : store->remove(n.id);
}

}  // namespace hull::net
