#include "net/link.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::net {
namespace {

using sys::Bytes;
using sys::NetlinkBatch;
using sys::NetlinkFailure;
using sys::NetlinkMessage;

constexpr uint32_t kLoopbackIndex = 1;  // in every network namespace
constexpr unsigned kDumpTries = 8;
// The kernel reports a carrier within a second at the latest.
constexpr auto kCarrierPatience = std::chrono::milliseconds(1500);

uint8_t af_of(Family family) { return family == Family::kV4 ? AF_INET : AF_INET6; }
uint8_t af_of(const IpAddress& address) { return af_of(address.family()); }

void put_address(NetlinkBatch& batch, uint16_t attribute, const IpAddress& address) {
  batch.put(attribute, address.data(), address.size());
}

ifinfomsg link_header(uint32_t index = 0) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  return header;
}

void add_link_up(NetlinkBatch& batch, uint32_t index) {
  ifinfomsg header = link_header(index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  batch.begin(RTM_NEWLINK, 0, header);
  batch.end();
}

// No link-local address of the kernel's own: a bridge port is not an IPv6 host, and each one would flood the bridge
// with solicitations.
void add_no_link_local(NetlinkBatch& batch, uint32_t index) {
  batch.begin(RTM_NEWLINK, 0, link_header(index));
  batch.open_nest(IFLA_AF_SPEC);
  batch.open_nest(AF_INET6);
  batch.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  batch.close_nest();
  batch.close_nest();
  batch.end();
}

void add_address(NetlinkBatch& batch, uint32_t index, const IpAddress& address, unsigned prefix_length) {
  ifaddrmsg header{};
  header.ifa_family = af_of(address);
  header.ifa_prefixlen = static_cast<uint8_t>(prefix_length);
  header.ifa_index = index;
  batch.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, header);
  put_address(batch, IFA_LOCAL, address);
  put_address(batch, IFA_ADDRESS, address);
  if (address.is_v4()) {
    put_address(batch, IFA_BROADCAST, Subnet::of(address, prefix_length).last());
  } else {
    batch.put_u32(IFA_FLAGS, IFA_F_NODAD);  // usable at once: the pool guarantees that nobody else has it
  }
  batch.end();
}

void add_default_route(NetlinkBatch& batch, uint32_t index, const IpAddress& gateway, bool by_device) {
  rtmsg header{};
  header.rtm_family = af_of(gateway);
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = by_device ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header);
  if (!by_device) put_address(batch, RTA_GATEWAY, gateway);
  batch.put_u32(RTA_OIF, index);
  batch.end();
}

// A second, worse route of ::1 to itself, by way of the bridge. The answer to a connection from ::1 that was translated
// comes in there, and its restored destination ::1 must be routed by an entry for the very interface that it came in by
// (the kernel is strict about loopback addresses). IPv4's route_localnet has no IPv6 sister; this takes its place.
void add_loopback_route(NetlinkBatch& batch, uint32_t index) {
  const IpAddress loopback = IpAddress::parse("::1").value_or(IpAddress());
  rtmsg header{};
  header.rtm_family = AF_INET6;
  header.rtm_dst_len = 128;
  header.rtm_table = RT_TABLE_LOCAL;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_LOCAL;
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header);
  put_address(batch, RTA_DST, loopback);
  batch.put_u32(RTA_OIF, index);
  batch.put_u32(RTA_PRIORITY, 1024 + index);  // each bridge has its own
  batch.end();
}

ndmsg neighbour_header(uint8_t family, uint32_t index, uint16_t state, uint8_t flags = 0) {
  ndmsg header{};
  header.ndm_family = family;
  header.ndm_ifindex = static_cast<int>(index);
  header.ndm_state = state;
  header.ndm_flags = flags;
  return header;
}

// Permanent: nothing has to be asked of a thousand ports, nothing counts against the neighbour table's limit
// (gc_thresh3, 1,024 for the whole machine), and no container can claim another's address towards the host.
void add_neighbour(NetlinkBatch& batch, uint32_t index, const IpAddress& address, const MacAddress& mac) {
  batch.begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighbour_header(af_of(address), index, NUD_PERMANENT));
  put_address(batch, NDA_DST, address);
  batch.put(NDA_LLADDR, mac.bytes.data(), mac.bytes.size());
  batch.end();
}

void delete_neighbour(NetlinkBatch& batch, uint32_t index, const IpAddress& address) {
  batch.begin(RTM_DELNEIGH, 0, neighbour_header(af_of(address), index, 0));
  put_address(batch, NDA_DST, address);
  batch.end();
}

// Tells the bridge behind which port an address lives, also when it lived behind another one a moment ago; sticky, so
// that no other port can draw it to itself.
void add_forwarding(NetlinkBatch& batch, uint32_t port_index, const MacAddress& mac) {
  batch.begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
              neighbour_header(AF_BRIDGE, port_index, NUD_NOARP, NTF_MASTER | NTF_STICKY));
  batch.put(NDA_LLADDR, mac.bytes.data(), mac.bytes.size());
  batch.end();
}

void add_get_link(NetlinkBatch& batch, const std::string& name) {
  batch.begin(RTM_GETLINK, 0, link_header());
  batch.put_string(IFLA_IFNAME, name);
  batch.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  batch.end();
}

void add_pair(NetlinkBatch& batch, const Endpoint& endpoint, int netns_fd, const Links::Port& port) {
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header());
  batch.put_string(IFLA_IFNAME, endpoint.host_interface);
  batch.put_u32(IFLA_MTU, port.mtu);
  batch.put_u32(IFLA_NUM_TX_QUEUES, 1);  // not one per processor: less to allocate
  batch.put_u32(IFLA_NUM_RX_QUEUES, 1);
  batch.put_u32(IFLA_MASTER, port.bridge_index);
  batch.put_u32(IFLA_GROUP, kPortGroup);
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "veth");
  batch.open_nest(IFLA_INFO_DATA);
  batch.open_nest(VETH_INFO_PEER);
  batch.put_raw(link_header());
  batch.put_string(IFLA_IFNAME, endpoint.interface_name);
  batch.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(netns_fd));
  batch.put(IFLA_ADDRESS, endpoint.mac.bytes.data(), endpoint.mac.bytes.size());
  batch.put_u32(IFLA_MTU, port.mtu);
  batch.put_u32(IFLA_NUM_TX_QUEUES, 1);
  batch.put_u32(IFLA_NUM_RX_QUEUES, 1);
  batch.close_nest();
  batch.close_nest();
  batch.close_nest();
  batch.end();
}

void add_port_flags(NetlinkBatch& batch, uint32_t index, bool hairpin, bool isolated) {
  batch.begin(RTM_NEWLINK, 0, link_header(index));
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_SLAVE_KIND, "bridge");
  batch.open_nest(IFLA_INFO_SLAVE_DATA);
  if (hairpin) batch.put_u8(IFLA_BRPORT_MODE, 1);
  if (isolated) batch.put_u8(IFLA_BRPORT_ISOLATED, 1);
  batch.close_nest();
  batch.close_nest();
  batch.end();
}

// A container must not believe router advertisements of other containers (CVE-2020-13401). Only where the bridge can't
// keep them away: a look-up below /proc/sys/net gets slower with every namespace that was looked at, for all of them
// hang in one chain of the kernel's name cache. Without IPv6 the file is not there.
void refuse_advertisements(const std::string& interface_name) {
  ignore_result(sys::write_value(AT_FDCWD, fmt::format("/proc/sys/net/ipv6/conf/{}/accept_ra", interface_name), "0"));
}

// fe80:: with the modified EUI-64 of RFC 4291, appendix A; what the kernel would make itself, after a second's wait for
// a duplicate.
IpAddress link_local(const MacAddress& mac) {
  std::array<uint8_t, 16> bytes{0xfe, 0x80};
  std::copy_n(mac.bytes.begin(), 3, bytes.begin() + 8);
  std::copy_n(mac.bytes.begin() + 3, 3, bytes.begin() + 13);
  bytes[8] ^= 2;
  bytes[11] = 0xff;
  bytes[12] = 0xfe;
  return IpAddress::from_bytes(Family::kV6, bytes.data());
}

// Whether the namespace refuses IPv6 (disable_ipv6, or none in the kernel).
bool refuses_ipv6(int error) {
  return error == EACCES || error == EPERM || error == EOPNOTSUPP || error == EAFNOSUPPORT || error == ENODEV ||
         error == EINVAL || error == EHOSTUNREACH || error == ENETUNREACH;
}

}  // namespace

std::optional<LinkInfo> parse_link(Bytes payload) {
  if (payload.size() < sizeof(ifinfomsg)) return std::nullopt;
  const auto header = sys::attribute_as<ifinfomsg>(payload);
  LinkInfo out;
  out.index = static_cast<uint32_t>(header.ifi_index);
  out.up = (header.ifi_flags & IFF_UP) != 0;
  bool whole = true;
  const auto visit = [&](uint16_t type, Bytes value) {
    if (type == IFLA_IFNAME) out.name = sys::attribute_string(value);
    if (type == IFLA_IFALIAS) out.alias = sys::attribute_string(value);
    if (type == IFLA_OPERSTATE) out.operational = sys::attribute_as<uint8_t>(value);
    if (type == IFLA_MASTER) out.master = sys::attribute_as<uint32_t>(value);
    if (type == IFLA_LINKINFO) {
      whole = whole && sys::for_each_attribute(value, [&](uint16_t inner, Bytes text) {
                if (inner == IFLA_INFO_KIND) out.kind = sys::attribute_string(text);
                if (inner != IFLA_INFO_SLAVE_DATA) return;
                sys::for_each_attribute(text, [&](uint16_t field, Bytes data) {
                  if (field == IFLA_BRPORT_STATE) out.port_state = sys::attribute_as<uint8_t>(data);
                });
              });
    }
  };
  if (!sys::for_each_attribute(payload.subspan(sizeof(header)), visit) || !whole) return std::nullopt;
  return out;
}

std::optional<RouteInfo> parse_route(Bytes payload) {
  if (payload.size() < sizeof(rtmsg)) return std::nullopt;
  const auto header = sys::attribute_as<rtmsg>(payload);
  if (header.rtm_family != AF_INET && header.rtm_family != AF_INET6) return std::nullopt;
  const Family family = header.rtm_family == AF_INET ? Family::kV4 : Family::kV6;
  const size_t size = family == Family::kV4 ? 4 : 16;
  if (header.rtm_dst_len > size * 8) return std::nullopt;
  std::array<uint8_t, 16> destination{};
  RouteInfo out;
  const bool whole = sys::for_each_attribute(payload.subspan(sizeof(header)), [&](uint16_t type, Bytes value) {
    if (type == RTA_DST && value.size() >= size) std::copy_n(value.begin(), size, destination.begin());
    if (type == RTA_OIF) out.link = sys::attribute_as<uint32_t>(value);
  });
  if (!whole) return std::nullopt;
  out.destination = Subnet::of(IpAddress::from_bytes(family, destination.data()), header.rtm_dst_len);
  return out;
}

Result<Links> Links::open() {
  TRY_ASSIGN(auto socket, sys::NetlinkSocket::open(NETLINK_ROUTE));
  return Links(std::move(socket));
}

Result<void> Links::run(NetlinkBatch& batch, std::string_view what, std::initializer_list<int> tolerated) {
  TRY_ASSIGN(const auto failures, socket_.exchange(batch));
  for (const NetlinkFailure& failure : failures) {
    if (std::find(tolerated.begin(), tolerated.end(), failure.error) == tolerated.end()) {
      return sys::netlink_error(failure, what);
    }
  }
  return {};
}

Result<void> Links::dump(NetlinkBatch& batch, std::string_view what,
                         const std::function<void(const NetlinkMessage&)>& visit) {
  // A list that changed while it was read may miss entries; with many commands at once that is common, so the visitor
  // sees some entries twice rather than us some of them never.
  for (unsigned i = 0; i < kDumpTries; ++i) {
    auto failures = socket_.exchange(batch, visit);
    if (failures.ok()) {
      if (failures->empty()) return {};
      return sys::netlink_error(failures->front(), what);
    }
    if (failures.error().error_number() != 0) return std::move(failures).error();
  }
  return {};  // the union of many readings is as good as one undisturbed
}

Result<std::optional<LinkInfo>> Links::find(const std::string& name) {
  NetlinkBatch batch;
  add_get_link(batch, name);
  std::optional<LinkInfo> found;
  TRY_ASSIGN(const auto failures,
             socket_.exchange(batch, [&](const NetlinkMessage& message) { found = parse_link(message.payload); }));
  if (!failures.empty() && failures.front().error != ENODEV) {
    return sys::netlink_error(failures.front(), fmt::format("look for interface {}", name));
  }
  return found;
}

Result<std::vector<LinkInfo>> Links::ports_of(uint32_t bridge_index) {
  NetlinkBatch batch;
  batch.begin(RTM_GETLINK, NLM_F_DUMP, link_header());
  batch.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  batch.put_u32(IFLA_MASTER, bridge_index);
  batch.end();
  std::vector<LinkInfo> out;
  TRY(dump(batch, "list the ports of a bridge", [&](const NetlinkMessage& message) {
    auto link = parse_link(message.payload);
    const auto same = [&](const LinkInfo& other) { return other.index == link->index; };
    if (link && link->master == bridge_index && std::none_of(out.begin(), out.end(), same)) {
      out.push_back(std::move(*link));
    }
  }));
  return out;
}

Result<std::vector<RouteInfo>> Links::routes(Family family) {
  NetlinkBatch batch;
  rtmsg header{};
  header.rtm_family = af_of(family);
  batch.begin(RTM_GETROUTE, NLM_F_DUMP, header);
  batch.end();
  std::vector<RouteInfo> out;
  TRY(dump(batch, "list the routes", [&](const NetlinkMessage& message) {
    const auto route = parse_route(message.payload);
    if (route && route->destination.prefix_length() > 0 && !route->destination.base().is_multicast()) {
      out.push_back(*route);
    }
  }));
  return out;
}

Result<uint32_t> Links::make_bridge(const Network& network) {
  const std::string what = fmt::format("make the bridge {}", network.bridge_device);
  const MacAddress mac = MacAddress::derived_from(network.gateway4);
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header());
  batch.put_string(IFLA_IFNAME, network.bridge_device);
  batch.put_u32(IFLA_MTU, network.mtu);
  // A fixed address, or the bridge would take the lowest of its ports', which come and go.
  batch.put(IFLA_ADDRESS, mac.bytes.data(), mac.bytes.size());
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "bridge");
  batch.open_nest(IFLA_INFO_DATA);
  batch.put_u32(IFLA_BR_STP_STATE, 0);
  // Snooping restarts the timers of all ports whenever one comes or goes: 15 ms for each start among a thousand.
  batch.put_u8(IFLA_BR_MCAST_SNOOPING, 0);
  batch.put_u32(IFLA_BR_FORWARD_DELAY, 0);
  batch.close_nest();
  batch.close_nest();
  batch.end();
  TRY(run(batch, what, {EEXIST}));
  TRY_ASSIGN(const auto link, find(network.bridge_device));
  if (!link) return errorf(ErrorKind::kConflict, "{}: it was removed at the same time", what);

  batch.clear();
  batch.begin(RTM_NEWLINK, 0, link_header(link->index));  // it may have been there, half made or with another address
  batch.put(IFLA_ADDRESS, mac.bytes.data(), mac.bytes.size());
  batch.end();
  add_link_up(batch, link->index);
  add_address(batch, link->index, network.gateway4, network.subnet4.prefix_length());
  if (network.gateway6) {
    add_address(batch, link->index, *network.gateway6, network.subnet6->prefix_length());
    add_loopback_route(batch, link->index);
  }
  TRY(run(batch, what, {EEXIST}));
  return link->index;
}

Result<void> Links::set_alias(uint32_t index, const std::string& alias) {
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, 0, link_header(index));
  batch.put_string(IFLA_IFALIAS, alias);
  batch.end();
  return run(batch, "mark the bridge");
}

Result<void> Links::remove(uint32_t index) { return remove(std::vector<uint32_t>{index}); }

Result<void> Links::remove(const std::vector<uint32_t>& indices) {
  NetlinkBatch batch;
  for (const uint32_t index : indices) {
    batch.begin(RTM_DELLINK, 0, link_header(index));
    batch.end();
  }
  return run(batch, "remove an interface", {ENODEV});
}

Result<uint32_t> Links::connect(const Endpoint& endpoint, int netns_fd, const Port& port) {
  const std::string what = fmt::format("connect workload {} to network {}", endpoint.workload_id, endpoint.network);
  NetlinkBatch batch;
  add_pair(batch, endpoint, netns_fd, port);
  add_get_link(batch, endpoint.host_interface);
  uint32_t index = 0;
  TRY_ASSIGN(auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
    const auto link = parse_link(message.payload);
    if (link) index = link->index;
  }));
  if (!failures.empty() && failures.front().error == EXFULL) {
    return errorf(
        ErrorKind::kNoSpace,
        "{}: its bridge has {} ports, the most that Linux gives a bridge; stop a workload, or run this one with "
        "--network host, none or container:ID",
        what, kBridgePortLimit);
  }
  if (!failures.empty()) {
    if (failures.front().error == EEXIST) {
      return Error(ErrorKind::kExists,
                   fmt::format("{}: {} or {} exists already", what, endpoint.host_interface, endpoint.interface_name));
    }
    return sys::netlink_error(failures.front(), what);
  }

  batch.clear();
  add_no_link_local(batch, index);
  if (port.hairpin || port.isolated) add_port_flags(batch, index, port.hairpin, port.isolated);
  add_link_up(batch, index);
  add_forwarding(batch, index, endpoint.mac);
  add_neighbour(batch, port.bridge_index, endpoint.ipv4, endpoint.mac);
  if (endpoint.ipv6) add_neighbour(batch, port.bridge_index, *endpoint.ipv6, endpoint.mac);
  // EAFNOSUPPORT: add_no_link_local on a kernel without IPv6.
  auto done = run(batch, what, {EAFNOSUPPORT, EOPNOTSUPP});
  if (!done.ok()) {
    ignore_result(remove(index));
    return std::move(done).error();
  }
  return index;
}

Result<void> Links::configure_inside(const Endpoint& endpoint, const Inside& inside) {
  const std::string what = fmt::format("configure {} of workload {}", endpoint.interface_name, endpoint.workload_id);
  TRY_ASSIGN(const auto link, find(endpoint.interface_name));
  if (!link) return errorf(ErrorKind::kConflict, "{}: the interface is gone", what);
  if (endpoint.ipv6 && inside.hush) refuse_advertisements(endpoint.interface_name);

  NetlinkBatch batch;
  if (endpoint.ipv6) add_no_link_local(batch, link->index);
  const size_t first_of_v4 = batch.count();
  add_link_up(batch, kLoopbackIndex);
  add_link_up(batch, link->index);
  add_address(batch, link->index, endpoint.ipv4, endpoint.prefix4);
  if (inside.gateway_mac) add_neighbour(batch, link->index, endpoint.gateway4, *inside.gateway_mac);
  if (inside.default_route) add_default_route(batch, link->index, endpoint.gateway4, inside.by_device);
  const size_t end_of_v4 = batch.count();
  if (endpoint.ipv6) {
    add_address(batch, link->index, link_local(endpoint.mac), 64);
    add_address(batch, link->index, *endpoint.ipv6, endpoint.prefix6);
    if (inside.gateway_mac) add_neighbour(batch, link->index, *endpoint.gateway6, *inside.gateway_mac);
    if (inside.default_route) add_default_route(batch, link->index, *endpoint.gateway6, inside.by_device);
  }
  TRY_ASSIGN(const auto failures, socket_.exchange(batch));
  for (const NetlinkFailure& failure : failures) {
    // A workload may refuse IPv6 for itself (--sysctl net.ipv6.conf.all.disable_ipv6=1); then it lives without.
    const bool of_v6 = failure.index < first_of_v4 || failure.index >= end_of_v4;
    if (!of_v6 || !refuses_ipv6(failure.error)) return sys::netlink_error(failure, what);
  }
  return {};
}

Result<void> Links::set_default_route(const Endpoint& endpoint, bool by_device) {
  const std::string what = fmt::format("route workload {} by network {}", endpoint.workload_id, endpoint.network);
  TRY_ASSIGN(const auto link, find(endpoint.interface_name));
  if (!link) return errorf(ErrorKind::kConflict, "{}: {} is gone", what, endpoint.interface_name);
  NetlinkBatch batch;
  add_default_route(batch, link->index, endpoint.gateway4, by_device);
  if (endpoint.ipv6 && endpoint.gateway6) add_default_route(batch, link->index, *endpoint.gateway6, by_device);
  TRY_ASSIGN(const auto failures, socket_.exchange(batch));
  for (const NetlinkFailure& failure : failures) {
    if (failure.index == 0 || !refuses_ipv6(failure.error)) return sys::netlink_error(failure, what);
  }
  return {};
}

Result<void> Links::settle(uint32_t port_index, uint32_t bridge_index) {
  NetlinkBatch batch;
  for (const uint32_t index : {port_index, bridge_index}) {
    batch.begin(RTM_GETLINK, 0, link_header(index));
    batch.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    batch.end();
  }
  const auto ask = [&]() -> Result<bool> {
    bool port_forwards = false;
    bool bridge_sends = false;
    TRY_ASSIGN(const auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
      const auto link = parse_link(message.payload);
      if (link && link->index == port_index) port_forwards = link->port_state == BR_STATE_FORWARDING;
      if (link && link->index == bridge_index) bridge_sends = link->operational == IF_OPER_UP;
    }));
    return (port_forwards && bridge_sends) || !failures.empty();
  };
  // Since Linux 6.8 the question itself brings the answer up to date; before, the change is announced soon.
  TRY_ASSIGN(bool done, ask());
  if (done) return {};
  TRY_ASSIGN(const auto news, sys::NetlinkSocket::open(NETLINK_ROUTE));
  const int group = RTNLGRP_LINK;
  if (::setsockopt(news.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
    return errnof("listen for changes of links");
  }
  const auto deadline = std::chrono::steady_clock::now() + kCarrierPatience;
  for (;;) {
    TRY_ASSIGN(done, ask());
    if (done) return {};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd entry{news.fd(), POLLIN, 0};
    if (left.count() <= 0 || ::poll(&entry, 1, static_cast<int>(left.count())) == 0) return {};  // it will come
    std::array<char, 4096> drop;
    while (::recv(news.fd(), drop.data(), drop.size(), MSG_DONTWAIT) > 0) continue;
  }
}

Result<void> Links::reconnect(const Endpoint& endpoint, uint32_t bridge_index) {
  const std::string what = fmt::format("reconnect workload {} to network {}", endpoint.workload_id, endpoint.network);
  TRY_ASSIGN(const auto link, find(endpoint.host_interface));
  if (!link) return {};  // its namespace is gone
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, 0, link_header(link->index));
  batch.put_u32(IFLA_MASTER, bridge_index);
  batch.end();
  add_link_up(batch, link->index);
  add_forwarding(batch, link->index, endpoint.mac);
  add_neighbour(batch, bridge_index, endpoint.ipv4, endpoint.mac);
  if (endpoint.ipv6) add_neighbour(batch, bridge_index, *endpoint.ipv6, endpoint.mac);
  return run(batch, what);
}

Result<void> Links::disconnect(const Endpoint& endpoint, uint32_t bridge_index) {
  NetlinkBatch batch;
  delete_neighbour(batch, bridge_index, endpoint.ipv4);
  if (endpoint.ipv6) delete_neighbour(batch, bridge_index, *endpoint.ipv6);
  batch.begin(RTM_NEWLINK, 0, link_header());
  batch.put_string(IFLA_IFNAME, endpoint.host_interface);
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_SLAVE_KIND, "bridge");
  batch.open_nest(IFLA_INFO_SLAVE_DATA);
  batch.put_u8(IFLA_BRPORT_STATE, BR_STATE_DISABLED);
  batch.close_nest();
  batch.close_nest();
  batch.end();
  return run(batch, fmt::format("disconnect workload {}", endpoint.workload_id),
             {ENOENT, ENODEV, ENETDOWN, EINVAL, ENXIO, EOPNOTSUPP, EAFNOSUPPORT});
}

Result<unsigned> Links::sweep_neighbours(uint32_t bridge_index, const std::function<bool(const IpAddress&)>& keep) {
  std::vector<IpAddress> stray;
  for (const Family family : {Family::kV4, Family::kV6}) {
    const size_t size = family == Family::kV4 ? 4 : 16;
    NetlinkBatch batch;
    batch.begin(RTM_GETNEIGH, NLM_F_DUMP, neighbour_header(af_of(family), 0, 0));
    batch.put_u32(NDA_IFINDEX, bridge_index);
    batch.end();
    TRY(dump(batch, "list the neighbours of the bridge", [&](const NetlinkMessage& message) {
      if (message.payload.size() < sizeof(ndmsg)) return;
      const auto header = sys::attribute_as<ndmsg>(message.payload);
      if (header.ndm_ifindex != static_cast<int>(bridge_index) || (header.ndm_state & NUD_PERMANENT) == 0) return;
      sys::for_each_attribute(message.payload.subspan(sizeof(header)), [&](uint16_t type, Bytes value) {
        if (type != NDA_DST || value.size() != size) return;
        const IpAddress address = IpAddress::from_bytes(family, value.data());
        if (!keep(address)) stray.push_back(address);
      });
    }));
  }
  NetlinkBatch batch;
  for (const IpAddress& address : stray) delete_neighbour(batch, bridge_index, address);
  TRY(run(batch, "remove stray neighbours", {ENOENT}));
  return static_cast<unsigned>(stray.size());
}

}  // namespace hull::net
