// Which address, which port: the choices that reserve() makes.
#include <sys/random.h>

#include <algorithm>

#include "base/error_format.h"
#include "net/manager.h"
#include "rootless/rootless.h"

namespace hull::net {

using Impl = NetworkManager::Impl;

namespace {

constexpr const char* kNextAddress = "next_address";  // offset in the IPv4 subnet
constexpr const char* kNextPort = "next_port";
constexpr const char* kNextLink = "next_link";
// A socket costs the monitor about a kilobyte of kernel memory; a workload that publishes thousands of ports goes
// without a claim on the rest of them.
constexpr size_t kMostHolders = 64;

Error in_use(std::string_view what, std::string_view value, std::string_view holder) {
  return errorf(ErrorKind::kConflict, "{} {} is in use by workload {}", what, value, holder);
}

std::string bind_text(const PublishedPort& port) {
  return fmt::format("{}{}{}:{}", port.host_ip.is_v4() ? "" : "[", port.host_ip.str(), port.host_ip.is_v4() ? "" : "]",
                     port.host_port);
}

// The gateway, or an address that --aux-address keeps.
bool is_taken(const Network& network, const IpAddress& address) {
  if (address == network.gateway4 || (network.gateway6 && address == *network.gateway6)) return true;
  return std::any_of(network.taken.begin(), network.taken.end(),
                     [&](const auto& one) { return one.second == address; });
}

Result<void> check_taken(const Network& network, const IpAddress& wanted) {
  for (const auto& [name, address] : network.taken) {
    if (address == wanted) {
      return errorf(ErrorKind::kConflict, "address {} is kept for {} (--aux-address of network {})", wanted.str(), name,
                    network.name);
    }
  }
  return {};
}

// An ordinary user's bridge is in a network of its own: the port of the host is hull-rootless's. Perhaps nothing.
Result<UniqueFd> publish_outside(const PublishedPort& port) {
  if (port.protocol != Protocol::kTcp && port.protocol != Protocol::kUdp) {
    return errorf(ErrorKind::kUnsupported, "an ordinary user can publish TCP and UDP ports, not SCTP");
  }
  auto lease = rootless::publish({port.protocol == Protocol::kUdp, port.host_ip.str(), port.host_port});
  // "-p 80:80" asks for both families; the host may have one.
  const bool no_ipv6 = !lease.ok() && !port.host_ip.is_v4() && port.host_ip.is_unspecified() &&
                       (lease.error().error_number() == EAFNOSUPPORT || lease.error().error_number() == EADDRNOTAVAIL);
  if (no_ipv6) return UniqueFd();
  return lease;
}

}  // namespace

Result<std::optional<IpAddress>> Impl::first_free(const Network& network, const IpAddress& from, const IpAddress& to) {
  IpAddress start = from;
  while (start <= to) {
    TRY_ASSIGN(const auto free, records->first_free(network.id, start, to));
    if (!free || !is_taken(network, *free)) return free;
    start = free->plus(1);
  }
  return std::optional<IpAddress>();
}

Result<std::string> Impl::next_host_interface() {
  TRY_ASSIGN(const auto stored, records->number(kNextLink));
  uint32_t next = static_cast<uint32_t>(stored.value_or(0));
  if (!stored && ::getrandom(&next, sizeof(next), 0) != sizeof(next)) return errnof("draw an interface name");
  // Never the same name twice in a boot: the last bearer may still be on its way out.
  TRY(records->set_number(kNextLink, uint32_t{next + 1}));
  return fmt::format("{}{:08x}", kHostInterfacePrefix, next);
}

Result<IpAddress> Impl::choose_v4(const Network& network, const EndpointRequest& request) {
  const Subnet& subnet = network.subnet4;
  if (request.ipv4) {
    const IpAddress& wanted = *request.ipv4;
    if (!subnet.contains(wanted)) {
      return errorf(ErrorKind::kInvalid, "--ip {}: not in the subnet {} of network {}", wanted.str(), subnet.str(),
                    network.name);
    }
    if (wanted == network.gateway4) {
      return errorf(ErrorKind::kConflict, "--ip {}: it is the gateway of network {}", wanted.str(), network.name);
    }
    if (wanted == subnet.base() || wanted == subnet.last()) {
      return errorf(ErrorKind::kInvalid, "--ip {}: the first and the last address of {} can't be given to a workload",
                    wanted.str(), subnet.str());
    }
    TRY(check_taken(network, wanted));
    TRY_ASSIGN(const auto holder, records->holder_of(network.id, wanted));
    if (holder) return in_use("address", wanted.str(), *holder);
    return wanted;
  }
  // The next after the one given last, as Docker does: an address rests as long as possible before it returns.
  const Subnet& range = network.range4.value_or(subnet);
  const IpAddress first =
      range.base() == subnet.base() ? subnet.base().plus(network.is_default() ? 2 : 1) : range.base();
  const IpAddress last = range.last() == subnet.last() ? subnet.last().plus(~uint64_t{0}) : range.last();
  const std::string next_key = network.is_default() ? kNextAddress : fmt::format("{} {}", kNextAddress, network.id);
  TRY_ASSIGN(const auto next, records->number(next_key));
  IpAddress start = next ? subnet.base().plus(static_cast<uint64_t>(*next)) : first;
  if (start < first || start > last) start = first;
  TRY_ASSIGN(auto free, first_free(network, start, last));
  if (!free && start != first) {
    TRY_ASSIGN(free, first_free(network, first, start));
  }
  if (!free) {
    return errorf(ErrorKind::kNoSpace,
                  "network {}: no available IPv4 addresses: all of {} are in use; remove workloads, or {}",
                  network.name, range.str(),
                  network.is_default() ? "set a larger network.subnet in hull.toml" : "make a larger network");
  }
  TRY(records->set_number(next_key, static_cast<int64_t>(subnet.offset_of(*free)) + 1));
  return *free;
}

Result<IpAddress> Impl::choose_v6(const Network& network, const EndpointRequest& request, uint64_t offset) {
  const Subnet& subnet = *network.subnet6;
  if (request.ipv6) {
    const IpAddress& wanted = *request.ipv6;
    if (!subnet.contains(wanted)) {
      return errorf(ErrorKind::kInvalid, "--ip6 {}: not in the subnet {} of network {}", wanted.str(), subnet.str(),
                    network.name);
    }
    if (wanted == *network.gateway6 || wanted == subnet.base()) {
      return errorf(ErrorKind::kConflict, "--ip6 {}: it is the router of network {}", wanted.str(), network.name);
    }
    TRY(check_taken(network, wanted));
    TRY_ASSIGN(const auto holder, records->holder_of(network.id, wanted));
    if (holder) return in_use("address", wanted.str(), *holder);
    return wanted;
  }
  const Subnet& range = network.range6.value_or(subnet);
  // The same place as in the IPv4 subnet, where that is possible: easy to recognize.
  const IpAddress alike = subnet.base().plus(offset);
  if (offset < subnet.size() && range.contains(alike) && !is_taken(network, alike)) {
    TRY_ASSIGN(const auto holder, records->holder_of(network.id, alike));
    if (!holder) return alike;
  }
  const IpAddress first = range.base() == subnet.base() ? subnet.base().plus(1) : range.base();
  const IpAddress last = range.base().plus(std::min<uint64_t>(range.size() - 1, UINT32_MAX));
  TRY_ASSIGN(const auto free, first_free(network, first, last));
  if (!free)
    return errorf(ErrorKind::kNoSpace, "network {}: all addresses of {} are in use", network.name, subnet.str());
  return *free;
}

Result<Endpoint> Impl::choose_endpoint(const Network& network, const EndpointRequest& request,
                                       std::string_view workload_id, const std::vector<Endpoint>& others) {
  Endpoint out;
  out.workload_id = workload_id;
  out.network_id = network.id;
  out.id = endpoint_id(workload_id, network.id);
  out.gateway_priority = request.gateway_priority;
  out.gateway = false;
  const auto has_name = [&](const std::string& name) {
    return std::any_of(others.begin(), others.end(), [&](const Endpoint& one) { return one.interface_name == name; });
  };
  out.interface_name = request.interface_name;
  for (unsigned i = 0; out.interface_name.empty(); ++i) {
    const std::string name = fmt::format("{}{}", network.interface_prefix, i);
    if (!has_name(name)) out.interface_name = name;
  }
  TRY(validate_interface_name(out.interface_name));
  if (has_name(out.interface_name)) {
    return errorf(ErrorKind::kConflict, "interface name {} of network {}: another network of the workload has it",
                  out.interface_name, network.name);
  }
  if (network.driver == Driver::kBridge) {
    TRY_ASSIGN(out.host_interface, next_host_interface());
  }
  TRY(choose_addresses(network, request, out));
  return out;
}

Result<void> Impl::choose_addresses(const Network& network, const EndpointRequest& request, Endpoint& endpoint) {
  if ((request.ipv4 && !request.ipv4->is_v4()) || (request.ipv6 && request.ipv6->is_v4())) {
    return errorf(ErrorKind::kInvalid, "--ip takes an IPv4 address, --ip6 an IPv6 address");
  }
  TRY_ASSIGN(endpoint.ipv4, choose_v4(network, request));
  if (network.subnet6) {
    TRY_ASSIGN(endpoint.ipv6, choose_v6(network, request, network.subnet4.offset_of(endpoint.ipv4)));
  } else if (request.ipv6) {
    return errorf(ErrorKind::kInvalid, "--ip6 {}: network {} has no IPv6 ({})", request.ipv6->str(), network.name,
                  network.is_default() ? "network.ipv6 in hull.toml, or disable_ipv6 on this host"
                                       : "it was made without --ipv6");
  }
  if (request.mac && network.driver == Driver::kIpvlan) {
    return errorf(ErrorKind::kInvalid, "--mac-address {}: on network {} every workload has the parent's (ipvlan)",
                  request.mac->str(), network.name);
  }
  endpoint.mac = request.mac.value_or(MacAddress::derived_from(endpoint.ipv4));
  if (endpoint.mac == MacAddress::derived_from(network.gateway4)) {
    return errorf(ErrorKind::kConflict, "--mac-address {}: it is that of the gateway of network {}", endpoint.mac.str(),
                  network.name);
  }
  TRY_ASSIGN(const auto holder, records->holder_of(network.id, endpoint.mac));
  if (holder) return in_use("MAC address", endpoint.mac.str(), *holder);
  complete(endpoint, network);
  return {};
}

// Takes one host port on all addresses; the error that stands in the way when it can't, a failure when going on is of
// no use.
Result<std::optional<Error>> Impl::try_port(const PortMapping& mapping, uint16_t port,
                                            const std::vector<IpAddress>& host_ips, Reservation& out) {
  std::vector<PublishedPort> published;
  std::vector<UniqueFd> claims, leases;
  for (const IpAddress& host_ip : host_ips) {
    const PublishedPort candidate{host_ip, port, mapping.container_port, mapping.protocol};
    const auto overlaps = [&](const PublishedPort& other) {
      return other.protocol == candidate.protocol && other.host_port == port &&
             other.host_ip.family() == host_ip.family() &&
             (other.host_ip == host_ip || other.host_ip.is_unspecified() || host_ip.is_unspecified());
    };
    const auto& ours = out.ports;
    TRY_ASSIGN(auto holder, records->holder_of(candidate));
    if (!holder && std::any_of(ours.begin(), ours.end(), overlaps)) holder = "itself";
    if (holder) {
      return std::optional<Error>(errorf(ErrorKind::kConflict,
                                         "Bind for {} failed: port is already allocated (by workload {})",
                                         bind_text(candidate), *holder));
    }
    auto claim = claim_port(candidate);
    if (!claim.ok()) {
      if (claim.error().kind() != ErrorKind::kConflict) return std::move(claim).error();
      return std::optional<Error>(std::move(claim).error());
    }
    published.push_back(candidate);
    if (rootless::inside()) {
      auto lease = publish_outside(candidate);
      if (!lease.ok()) {
        if (lease.error().kind() != ErrorKind::kConflict) return std::move(lease).error();
        return std::optional<Error>(std::move(lease).error());
      }
      if (lease->valid()) leases.push_back(std::move(*lease));
    }
    if (claim->valid()) claims.push_back(std::move(*claim));
  }
  for (const PublishedPort& port_taken : published) out.ports.push_back(port_taken);
  // Without its lease a port is closed: these come first, and can't be left out.
  for (UniqueFd& lease : leases) {
    if (out.holders.size() >= kMostHolders) {
      return errorf(ErrorKind::kNoSpace, "an ordinary user can publish {} ports of a workload", kMostHolders);
    }
    out.holders.push_back(std::move(lease));
  }
  for (UniqueFd& claim : claims) {
    if (settings.hold_ports && out.holders.size() < kMostHolders) out.holders.push_back(std::move(claim));
  }
  return std::optional<Error>();
}

Result<void> Impl::choose_port(const PortMapping& mapping, const std::vector<IpAddress>& host_ips, Reservation& out) {
  const bool any = mapping.host_port == 0;
  const auto [low, high] = any ? ephemeral_range() : std::pair(mapping.host_port, mapping.host_port_last);
  if (high < low) return errorf(ErrorKind::kInvalid, "host ports {}-{}: the range goes backwards", low, high);
  unsigned start = low;
  if (any) {
    TRY_ASSIGN(const auto next, records->number(kNextPort));
    if (next && *next >= low && *next <= high) start = static_cast<unsigned>(*next);
  }
  std::optional<Error> last;
  const unsigned count = high - low + 1u;
  for (unsigned i = 0; i < count; ++i) {
    const auto port = static_cast<uint16_t>(low + (start - low + i) % count);
    TRY_ASSIGN(last, try_port(mapping, port, host_ips, out));
    if (last) continue;
    if (any) TRY(records->set_number(kNextPort, int64_t{port} + 1));
    return {};
  }
  if (count == 1) return std::move(*last);
  return errorf(ErrorKind::kConflict, "publish {}/{}: every host port from {} to {} is in use (the last try: {})",
                mapping.container_port, to_string(mapping.protocol), low, high, last->message());
}

Result<void> Impl::choose_ports(const ReserveRequest& request, const Network& network, const Endpoint& endpoint,
                                Reservation& out) {
  const IpAddress any4 = network.publish_on.value_or(IpAddress());
  const IpAddress any6 = IpAddress::parse("::").value_or(any4);
  for (const PortMapping& mapping : request.ports) {
    if (mapping.container_port == 0) return errorf(ErrorKind::kInvalid, "publish: 0 is no container port");
    std::vector<IpAddress> host_ips;
    if (!mapping.host_ip) {
      host_ips.push_back(any4);
      if (endpoint.ipv6) host_ips.push_back(any6);
    } else if (mapping.host_ip->is_v4()) {
      host_ips.push_back(*mapping.host_ip);
    } else if (mapping.host_ip->is_loopback() && bridge_filters().v6) {
      return errorf(ErrorKind::kUnsupported,
                    "publish on [{}]:{}: can't work while bridged frames pass through the firewall; set "
                    "net.bridge.bridge-nf-call-ip6tables=0, or publish on 127.0.0.1",
                    mapping.host_ip->str(), mapping.host_port);
    } else if (!endpoint.ipv6) {
      return errorf(ErrorKind::kInvalid, "publish on [{}]:{}: network {} has no IPv6", mapping.host_ip->str(),
                    mapping.host_port, endpoint.network);
    } else {
      host_ips.push_back(*mapping.host_ip);
    }
    TRY(choose_port(mapping, host_ips, out));
  }
  return {};
}

}  // namespace hull::net
