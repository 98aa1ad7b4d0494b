#include "vm/network_handover.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/netlink.h"

namespace hull::vm {
namespace {

using sys::Bytes;
using sys::NetlinkBatch;
using sys::NetlinkMessage;
using sys::NetlinkSocket;

constexpr int kDumpTries = 8;

struct Link {
  uint32_t index = 0;
  std::string name, kind;
  uint32_t mtu = 0;
  std::array<uint8_t, 6> mac{};
};

struct Address {
  ifaddrmsg header{};
  std::string bytes;
};

template <typename Header>
bool read_header(const NetlinkMessage& message, Header* header, Bytes* attributes) {
  if (message.payload.size() < sizeof(Header)) return false;
  std::memcpy(header, message.payload.data(), sizeof(Header));
  *attributes = message.payload.subspan(NLMSG_ALIGN(sizeof(Header)));
  return true;
}

/// A dump that another change disturbs is asked for again.
template <typename Header>
Result<void> dump(NetlinkSocket& socket, uint16_t type, const Header& header,
                  const std::function<void(const NetlinkMessage&)>& visit, const std::function<void()>& restart) {
  for (int left = kDumpTries;; --left) {
    NetlinkBatch batch;
    batch.begin(type, NLM_F_DUMP, header);
    batch.end();
    restart();
    auto answered = socket.exchange(batch, visit);
    if (!answered.ok()) {
      if (answered.error().kind() == ErrorKind::kUnavailable && left > 1) continue;
      return std::move(answered).error();
    }
    if (!answered->empty()) return sys::netlink_error(answered->front(), "read the network namespace");
    return {};
  }
}

/// "eth2" before "eth10".
bool comes_first(const Link& a, const Link& b) {
  return a.name.size() != b.name.size() ? a.name.size() < b.name.size() : a.name < b.name;
}

/// Interfaces of Ethernet's kind that are up, by their names, and the indices of the machine's `taps`, by their numbers
/// (0: none of this number).
Result<std::vector<Link>> ethernet_links(NetlinkSocket& socket, std::vector<uint32_t>& taps) {
  std::vector<Link> found;
  const auto visit = [&](const NetlinkMessage& message) {
    ifinfomsg header;
    Bytes attributes;
    if (message.type != RTM_NEWLINK || !read_header(message, &header, &attributes)) return;
    Link link;
    link.index = static_cast<uint32_t>(header.ifi_index);
    sys::for_each_attribute(attributes, [&](uint16_t type, Bytes value) {
      if (type == IFLA_IFNAME) link.name = sys::attribute_string(value);
      if (type == IFLA_MTU) link.mtu = sys::attribute_as<uint32_t>(value);
      if (type == IFLA_ADDRESS && value.size() == link.mac.size()) {
        std::memcpy(link.mac.data(), value.data(), link.mac.size());
      }
      if (type == IFLA_LINKINFO) {
        sys::for_each_attribute(value, [&](uint16_t inner, Bytes text) {
          if (inner == IFLA_INFO_KIND) link.kind = sys::attribute_string(text);
        });
      }
    });
    const auto tap = std::find_if(taps.begin(), taps.end(),
                                  [&, card = size_t{0}](uint32_t) mutable { return link.name == tap_name(card++); });
    if (tap != taps.end()) {
      *tap = link.index;
    } else if (header.ifi_type == ARPHRD_ETHER && (header.ifi_flags & IFF_UP) != 0) {
      found.push_back(std::move(link));
    }
  };
  ifinfomsg header{};
  TRY(dump(socket, RTM_GETLINK, header, visit, [&] { found.clear(); }));
  std::sort(found.begin(), found.end(), comes_first);
  return found;
}

Result<std::vector<Address>> addresses_of(NetlinkSocket& socket, uint32_t index) {
  std::vector<Address> found;
  const auto visit = [&](const NetlinkMessage& message) {
    Address address;
    Bytes attributes;
    if (message.type != RTM_NEWADDR || !read_header(message, &address.header, &attributes)) return;
    if (address.header.ifa_index != index) return;
    Bytes local;
    Bytes other;
    sys::for_each_attribute(attributes, [&](uint16_t type, Bytes value) {
      if (type == IFA_LOCAL) local = value;
      if (type == IFA_ADDRESS) other = value;
    });
    const Bytes chosen = local.empty() ? other : local;  // IPv6 has IFA_ADDRESS alone
    if (chosen.size() != 4 && chosen.size() != 16) return;
    address.bytes.assign(reinterpret_cast<const char*>(chosen.data()), chosen.size());
    found.push_back(std::move(address));
  };
  ifaddrmsg header{};
  TRY(dump(socket, RTM_GETADDR, header, visit, [&] { found.clear(); }));
  return found;
}

Result<std::vector<guest::proto::Route>> routes_of(NetlinkSocket& socket, uint32_t index) {
  std::vector<guest::proto::Route> found;
  const auto visit = [&](const NetlinkMessage& message) {
    rtmsg header;
    Bytes attributes;
    if (message.type != RTM_NEWROUTE || !read_header(message, &header, &attributes)) return;
    // What the kernel made of the addresses it makes again in the guest.
    if (header.rtm_table != RT_TABLE_MAIN || header.rtm_type != RTN_UNICAST || header.rtm_protocol == RTPROT_KERNEL) {
      return;
    }
    guest::proto::Route route;
    uint32_t out = 0;
    const auto text = [](Bytes value) {
      return std::string(reinterpret_cast<const char*>(value.data()), value.size());
    };
    sys::for_each_attribute(attributes, [&](uint16_t type, Bytes value) {
      if (type == RTA_OIF) out = sys::attribute_as<uint32_t>(value);
      if (type == RTA_DST) route.set_destination(text(value));
      if (type == RTA_GATEWAY) route.set_gateway(text(value));
      if (type == RTA_PREFSRC) route.set_source(text(value));
      if (type == RTA_PRIORITY) route.set_metric(sys::attribute_as<uint32_t>(value));
    });
    if (out != index) return;
    route.set_prefix(header.rtm_dst_len);
    route.set_scope(header.rtm_scope);
    if (route.destination().empty() && route.gateway().empty()) {
      route.set_destination(std::string(header.rtm_family == AF_INET6 ? 16 : 4, '\0'));
    }
    found.push_back(std::move(route));
  };
  rtmsg header{};
  TRY(dump(socket, RTM_GETROUTE, header, visit, [&] { found.clear(); }));
  // A gateway may have to be reached by one of the others first.
  std::stable_partition(found.begin(), found.end(),
                        [](const guest::proto::Route& route) { return route.gateway().empty(); });
  return found;
}

ifinfomsg link_header(uint32_t index) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  return header;
}

/// A port is no host: no IPv6 address of its own.
void put_no_link_local(NetlinkBatch& batch) {
  batch.open_nest(IFLA_AF_SPEC);
  batch.open_nest(AF_INET6);
  batch.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  batch.close_nest();
  batch.close_nest();
}

void add_no_link_local(NetlinkBatch& batch, uint32_t index) {
  batch.begin(RTM_NEWLINK, 0, link_header(index));
  put_no_link_local(batch);
  batch.end();
}

/// A bridge of two ports has nothing to learn: what comes in by one leaves by the other. It must not, either: the
/// host's bridge may send a broadcast of the guest back (hairpin), and the guest's address would be looked for out
/// there.
void add_port(NetlinkBatch& batch, uint32_t index, uint32_t bridge, uint32_t mtu) {
  batch.begin(RTM_NEWLINK, 0, link_header(index));
  batch.put_u32(IFLA_MTU, mtu);
  batch.put_u32(IFLA_MASTER, bridge);
  batch.end();
  batch.begin(RTM_NEWLINK, 0, link_header(index));
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_SLAVE_KIND, "bridge");
  batch.open_nest(IFLA_INFO_SLAVE_DATA);
  batch.put_u8(IFLA_BRPORT_LEARNING, 0);
  batch.close_nest();
  batch.close_nest();
  batch.end();
  ifinfomsg header = link_header(index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  batch.begin(RTM_NEWLINK, 0, header);
  batch.end();
}

Result<void> send(NetlinkSocket& socket, NetlinkBatch& batch, std::string_view what) {
  TRY_ASSIGN(const std::vector<sys::NetlinkFailure> failures, socket.exchange(batch));
  if (!failures.empty()) return sys::netlink_error(failures.front(), what);
  return {};
}

std::array<uint8_t, 6> random_mac_bytes() {
  std::array<uint8_t, 6> bytes{};
  // Six bytes come at once or the kernel has no random numbers yet; then a constant serves within this namespace.
  if (::getrandom(bytes.data(), bytes.size(), GRND_NONBLOCK) != static_cast<ssize_t>(bytes.size())) bytes = {};
  bytes[0] = static_cast<uint8_t>((bytes[0] & 0xfc) | 0x02);
  return bytes;
}

std::string mac_text(const std::array<uint8_t, 6>& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/// The bridge, down, and its index.
Result<uint32_t> make_bridge(NetlinkSocket& socket, const std::string& name, uint32_t mtu) {
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0));
  batch.put_string(IFLA_IFNAME, name);
  batch.put_u32(IFLA_MTU, mtu);
  const auto mac = random_mac_bytes();
  batch.put(IFLA_ADDRESS, mac.data(), mac.size());
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "bridge");
  batch.open_nest(IFLA_INFO_DATA);
  batch.put_u32(IFLA_BR_STP_STATE, 0);
  batch.put_u32(IFLA_BR_FORWARD_DELAY, 0);
  batch.put_u8(IFLA_BR_MCAST_SNOOPING, 0);
  batch.close_nest();
  batch.close_nest();
  batch.end();
  TRY(send(socket, batch, "make the bridge between the container's interface and the machine's"));
  uint32_t index = 0;
  NetlinkBatch question;
  question.begin(RTM_GETLINK, 0, link_header(0));
  question.put_string(IFLA_IFNAME, name);
  question.end();
  TRY_ASSIGN(const auto failures, socket.exchange(question, [&](const NetlinkMessage& message) {
    ifinfomsg found;
    Bytes attributes;
    if (message.type == RTM_NEWLINK && read_header(message, &found, &attributes)) {
      index = static_cast<uint32_t>(found.ifi_index);
    }
  }));
  if (!failures.empty() || index == 0) return errorf(ErrorKind::kIo, "the bridge {} has disappeared", name);
  return index;
}

bool is_link_local(const Address& address) {
  return address.bytes.size() == 16 && static_cast<uint8_t>(address.bytes[0]) == 0xfe &&
         (static_cast<uint8_t>(address.bytes[1]) & 0xc0) == 0x80;
}

Result<void> join(NetlinkSocket& socket, const Link& link, size_t card, uint32_t tap,
                  const std::vector<Address>& addresses) {
  TRY_ASSIGN(const uint32_t bridge, make_bridge(socket, bridge_name(card), link.mtu));
  // Before anything new is up. A kernel without IPv6 knows none of this.
  NetlinkBatch quiet;
  for (const uint32_t index : {bridge, link.index, tap}) add_no_link_local(quiet, index);
  ignore_result(socket.exchange(quiet));
  NetlinkBatch batch;
  for (const Address& address : addresses) {
    batch.begin(RTM_DELADDR, 0, address.header);
    batch.put(IFA_LOCAL, address.bytes.data(), address.bytes.size());
    batch.end();
  }
  // The guest has the interface's MAC from now on. Were it the port's too, the bridge would keep its frames.
  const auto mac = random_mac_bytes();
  batch.begin(RTM_NEWLINK, 0, link_header(link.index));
  batch.put(IFLA_ADDRESS, mac.data(), mac.size());
  batch.end();
  add_port(batch, link.index, bridge, link.mtu);
  add_port(batch, tap, bridge, link.mtu);
  ifinfomsg up = link_header(bridge);
  up.ifi_flags = IFF_UP;
  up.ifi_change = IFF_UP;
  batch.begin(RTM_NEWLINK, 0, up);
  batch.end();
  return send(socket, batch, fmt::format("join {} with the machine", link.name));
}

/// One interface's address and routes, as the guest is to have them; joined with the card's tap then.
Result<guest::proto::Interface> hand_over(NetlinkSocket& socket, const Link& link, size_t card, uint32_t tap) {
  if (link.kind == "macvlan" || link.kind == "ipvlan" || link.kind == "macvtap" || link.kind == "ipvtap") {
    return errorf(ErrorKind::kUnsupported, "interface {} is of type {}, which can't be joined with a virtual machine's",
                  link.name, link.kind);
  }
  if (tap == 0) return errorf(ErrorKind::kIo, "the machine's network device {} has disappeared", tap_name(card));
  TRY_ASSIGN(const std::vector<Address> addresses, addresses_of(socket, link.index));
  TRY_ASSIGN(const std::vector<guest::proto::Route> routes, routes_of(socket, link.index));
  guest::proto::Interface out;
  out.set_name(link.name);
  out.set_mac(mac_text(link.mac));
  out.set_mtu(link.mtu);
  for (const Address& address : addresses) {
    if (is_link_local(address)) continue;
    guest::proto::Address* told = out.add_addresses();
    told->set_address(address.bytes);
    told->set_prefix(address.header.ifa_prefixlen);
  }
  for (const guest::proto::Route& route : routes) *out.add_routes() = route;
  TRY(join(socket, link, card, tap, addresses));
  return out;
}

}  // namespace

std::string tap_name(size_t card) { return fmt::format("hulltap{}", card); }
std::string bridge_name(size_t card) { return fmt::format("hullbr{}", card); }

Result<std::string> random_mac() { return mac_text(random_mac_bytes()); }

Result<UniqueFd> open_tap(size_t card) {
  auto opened = sys::open("/dev/net/tun", O_RDWR);
  if (!opened.ok()) {
    return std::move(opened).error().context("the network of a virtual machine").as(ErrorKind::kUnsupported);
  }
  ifreq request{};
  const std::string name = tap_name(card);
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(opened->get(), TUNSETIFF, &request) != 0) return errnof("make the network device {}", name);
  return opened;
}

Result<size_t> count_interfaces() {
  TRY_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  std::vector<uint32_t> none;
  TRY_ASSIGN(const std::vector<Link> links, ethernet_links(socket, none));
  return links.size();
}

Result<std::vector<guest::proto::Interface>> hand_over_network(size_t cards) {
  TRY_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  std::vector<uint32_t> taps(cards, 0);
  TRY_ASSIGN(const std::vector<Link> links, ethernet_links(socket, taps));
  if (links.size() > cards) {
    return errorf(ErrorKind::kUnsupported,
                  "the network namespace has {} interfaces, the virtual machine was made with {} network cards: they "
                  "have to be there when it is created",
                  links.size(), cards);
  }
  std::vector<guest::proto::Interface> out(cards);
  for (size_t card = 0; card < cards; ++card) {
    if (card < links.size()) {
      TRY_ASSIGN(out[card], hand_over(socket, links[card], card, taps[card]));
    } else {
      out[card].set_down(true);
    }
  }
  return out;
}

}  // namespace hull::vm
