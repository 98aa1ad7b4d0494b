#include "guest/network.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "base/error_format.h"
#include "sys/netlink.h"

namespace hull::guest {
namespace {

constexpr int kLoopbackIndex = 1;  // in every network namespace
constexpr size_t kV4 = 4, kV6 = 16;

Result<uint8_t> family_of(const std::string& address) {
  if (address.size() == kV4) return static_cast<uint8_t>(AF_INET);
  if (address.size() == kV6) return static_cast<uint8_t>(AF_INET6);
  return errorf(ErrorKind::kInvalid, "an IP address of {} bytes", address.size());
}

std::string text_of(const std::string& address) {
  char text[INET6_ADDRSTRLEN] = "default";
  if (!address.empty()) ::inet_ntop(address.size() == kV4 ? AF_INET : AF_INET6, address.data(), text, sizeof text);
  return text;
}

/// A batch, and for each of its messages what it was for.
struct Requests {
  sys::NetlinkBatch batch;
  std::vector<std::string> purposes;

  template <typename Header>
  void begin(uint16_t type, uint16_t flags, const Header& header, std::string purpose) {
    purposes.push_back(std::move(purpose));
    batch.begin(type, flags, header);
  }
  Result<void> send(sys::NetlinkSocket& socket) {
    if (purposes.empty()) return {};
    TRY_ASSIGN(const std::vector<sys::NetlinkFailure> failures, socket.exchange(batch));
    if (failures.empty()) return {};
    const sys::NetlinkFailure& first = failures.front();
    return sys::netlink_error(first, "set up the network: " + purposes[std::min(first.index, purposes.size() - 1)]);
  }
};

ifinfomsg link_header(int index) {
  ifinfomsg header{};
  header.ifi_index = index;
  return header;
}

void add_up(Requests& requests, int index, const std::string& name) {
  ifinfomsg header = link_header(index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  requests.begin(RTM_NEWLINK, 0, header, name + ": up");
  requests.batch.end();
}

/// Ethernet devices, in the order in which the kernel found them.
Result<std::vector<int>> find_devices(sys::NetlinkSocket& socket) {
  sys::NetlinkBatch batch;
  batch.begin(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  batch.end();
  std::vector<int> found;
  TRY_ASSIGN(const auto failures, socket.exchange(batch, [&](const sys::NetlinkMessage& message) {
    if (message.type != RTM_NEWLINK || message.payload.size() < sizeof(ifinfomsg)) return;
    const auto header = sys::attribute_as<ifinfomsg>(message.payload);
    if (header.ifi_type == ARPHRD_ETHER) found.push_back(header.ifi_index);
  }));
  if (!failures.empty()) return sys::netlink_error(failures.front(), "list the network devices");
  std::sort(found.begin(), found.end());
  return found;
}

Result<void> add_link(Requests& requests, int index, const proto::Interface& wanted, const std::string& name) {
  requests.begin(RTM_NEWLINK, 0, link_header(index), name + ": name, address and MTU");
  if (!wanted.name().empty()) {
    if (wanted.name().size() >= IFNAMSIZ) return errorf(ErrorKind::kInvalid, "{}: the name is too long", name);
    requests.batch.put_string(IFLA_IFNAME, wanted.name());
  }
  if (!wanted.mac().empty()) {
    const auto mac = parse_mac(wanted.mac());
    if (!mac) return errorf(ErrorKind::kInvalid, "{}: '{}' is no MAC address", name, wanted.mac());
    requests.batch.put(IFLA_ADDRESS, mac->data(), mac->size());
  }
  if (wanted.mtu() != 0) requests.batch.put_u32(IFLA_MTU, wanted.mtu());
  requests.batch.end();
  return {};
}

Result<void> add_address(Requests& requests, int index, const proto::Address& wanted) {
  const std::string& bytes = wanted.address();
  TRY_ASSIGN(const uint8_t family, family_of(bytes));
  if (wanted.prefix() > bytes.size() * 8) return errorf(ErrorKind::kInvalid, "prefix length {}", wanted.prefix());
  ifaddrmsg header{};
  header.ifa_family = family;
  header.ifa_prefixlen = static_cast<uint8_t>(wanted.prefix());
  header.ifa_index = static_cast<uint32_t>(index);
  requests.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, header, "address " + text_of(bytes));
  requests.batch.put(IFA_LOCAL, bytes.data(), bytes.size());
  requests.batch.put(IFA_ADDRESS, bytes.data(), bytes.size());
  if (family == AF_INET) {
    constexpr uint32_t kNoBroadcast = 31;  // from this prefix on (RFC 3021)
    uint32_t address = 0;
    std::memcpy(&address, bytes.data(), sizeof address);
    if (wanted.prefix() < kNoBroadcast) {
      const uint32_t host_bits = wanted.prefix() == 0 ? ~0U : (1U << (32 - wanted.prefix())) - 1;
      address |= htonl(host_bits);
      requests.batch.put(IFA_BROADCAST, &address, sizeof address);
    }
  } else {
    requests.batch.put_u32(IFA_FLAGS, IFA_F_NODAD);
  }
  requests.batch.end();
  return {};
}

Result<void> add_route(Requests& requests, int index, const proto::Route& wanted) {
  const std::string& one = wanted.destination().empty() ? wanted.gateway() : wanted.destination();
  if (one.empty()) return errorf(ErrorKind::kInvalid, "a route without destination and gateway");
  TRY_ASSIGN(const uint8_t family, family_of(one));
  if (wanted.prefix() > one.size() * 8 || (wanted.destination().empty() && wanted.prefix() != 0)) {
    return errorf(ErrorKind::kInvalid, "prefix length {} of a route", wanted.prefix());
  }
  for (const std::string* address : {&wanted.gateway(), &wanted.source()}) {
    if (!address->empty() && address->size() != one.size()) {
      return errorf(ErrorKind::kInvalid, "a route to {} mixes address families", text_of(wanted.destination()));
    }
  }
  rtmsg header{};
  header.rtm_family = family;
  header.rtm_dst_len = static_cast<uint8_t>(wanted.prefix());
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = static_cast<uint8_t>(wanted.scope());
  header.rtm_type = RTN_UNICAST;
  requests.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header,
                 fmt::format("route to {}/{}", text_of(wanted.destination()), wanted.prefix()));
  const auto put = [&](uint16_t attribute, const std::string& bytes) {
    if (!bytes.empty()) requests.batch.put(attribute, bytes.data(), bytes.size());
  };
  put(RTA_DST, wanted.destination());
  put(RTA_GATEWAY, wanted.gateway());
  put(RTA_PREFSRC, wanted.source());
  if (wanted.metric() != 0) requests.batch.put_u32(RTA_PRIORITY, wanted.metric());
  requests.batch.put_u32(RTA_OIF, static_cast<uint32_t>(index));
  requests.batch.end();
  return {};
}

}  // namespace

std::optional<std::array<uint8_t, 6>> parse_mac(std::string_view text) {
  std::array<uint8_t, 6> out{};
  constexpr size_t kLength = 17;
  if (text.size() != kLength) return std::nullopt;
  for (size_t i = 0; i < out.size(); ++i) {
    unsigned value = 0;
    for (size_t k = 0; k < 2; ++k) {
      const char c = text[i * 3 + k];
      const bool decimal = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'f', upper = c >= 'A' && c <= 'F';
      if (!decimal && !lower && !upper) return std::nullopt;
      value = value * 16 + static_cast<unsigned>(decimal ? c - '0' : (lower ? c - 'a' : c - 'A') + 10);
    }
    if (i + 1 < out.size() && text[i * 3 + 2] != ':') return std::nullopt;
    out[i] = static_cast<uint8_t>(value);
  }
  return out;
}

Result<void> bring_up_loopback() {
  TRY_ASSIGN(sys::NetlinkSocket socket, sys::NetlinkSocket::open(NETLINK_ROUTE));
  Requests requests;
  add_up(requests, kLoopbackIndex, "lo");
  return requests.send(socket);
}

Result<void> configure_network(const google::protobuf::RepeatedPtrField<proto::Interface>& interfaces) {
  if (interfaces.empty()) return {};
  TRY_ASSIGN(sys::NetlinkSocket socket, sys::NetlinkSocket::open(NETLINK_ROUTE));
  TRY_ASSIGN(const std::vector<int> devices, find_devices(socket));
  if (devices.size() < static_cast<size_t>(interfaces.size())) {
    return errorf(ErrorKind::kNotFound, "the machine has {} network devices, {} are to be set up", devices.size(),
                  interfaces.size());
  }
  Requests requests, routes;
  for (int i = 0; i < interfaces.size(); ++i) {
    const proto::Interface& wanted = interfaces[i];
    const int index = devices[static_cast<size_t>(i)];
    const std::string name = wanted.name().empty() ? fmt::format("network device {}", i) : wanted.name();
    TRY(add_link(requests, index, wanted, name));
    if (wanted.down()) continue;
    add_up(requests, index, name);
    for (const proto::Address& address : wanted.addresses()) TRY(add_address(requests, index, address));
    // Gateways are reached by what is on the link.
    for (const proto::Route& route : wanted.routes()) {
      if (route.gateway().empty()) TRY(add_route(routes, index, route));
    }
    for (const proto::Route& route : wanted.routes()) {
      if (!route.gateway().empty()) TRY(add_route(routes, index, route));
    }
  }
  // Two batches: a refused one leaves its later messages carried out, and those of routes would hide the reason.
  TRY(requests.send(socket));
  return routes.send(socket);
}

}  // namespace hull::guest
