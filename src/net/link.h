#pragma once
// The rtnetlink side: links, addresses, neighbours, routes. Internal to this room.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/network.h"
#include "sys/netlink.h"

namespace hull::net {

/// The group (IFLA_GROUP) of the host's ends of all pairs: "hull" in ASCII. nftables knows them by it.
inline constexpr uint32_t kPortGroup = 0x68756c6c;

struct LinkInfo {
  uint32_t index = 0;
  std::string name;
  std::string kind;   ///< "bridge", "veth", …
  std::string alias;  ///< ours marks the bridge with its configuration
  uint32_t master = 0;
  bool up = false;
  uint8_t operational = 0;            ///< IF_OPER_*
  std::optional<uint8_t> port_state;  ///< BR_STATE_* of a bridge's port
};

/// Reads an RTM_NEWLINK payload; nothing when it is malformed.
std::optional<LinkInfo> parse_link(sys::Bytes payload);

/// One route or address of the host, as far as it matters for a choice of subnets.
struct RouteInfo {
  Subnet destination;
  uint32_t link = 0;
};
/// Reads an RTM_NEWROUTE payload; nothing when it is malformed or of a family that we don't know.
std::optional<RouteInfo> parse_route(sys::Bytes payload);

/// rtnetlink in one network namespace: that in which open() was called.
class Links {
 public:
  static Result<Links> open();

  /// Nothing when there is no such link.
  Result<std::optional<LinkInfo>> find(const std::string& name);
  Result<std::vector<LinkInfo>> ports_of(uint32_t bridge_index);
  /// Every unicast destination of a family but the default routes.
  Result<std::vector<RouteInfo>> routes(Family family);

  /// Makes the bridge of a network, or brings what is there into its state. Returns its index.
  Result<uint32_t> make_bridge(const Network& network);
  /// Set last of all, so that a bridge that bears its alias is complete.
  Result<void> set_alias(uint32_t index, const std::string& alias);
  Result<void> remove(uint32_t index);
  Result<void> remove(const std::vector<uint32_t>& indices);

  struct Port {
    uint32_t bridge_index = 0;
    unsigned mtu = 1500;
    bool hairpin = false;
    bool isolated = false;  ///< reaches the bridge itself, no other port that is isolated
  };
  /// The host's half of attaching: the pair, with its peer born inside the namespace, the port, the neighbours.
  Result<uint32_t> connect(const Endpoint& endpoint, int netns_fd, const Port& port);
  /// The same for macvlan and ipvlan: an interface upon the parent, born inside the namespace.
  Result<void> connect_stacked(const Endpoint& endpoint, const Network& network, int netns_fd, uint32_t parent_index);
  struct Inside {
    std::optional<MacAddress> gateway_mac;  ///< of a bridge: nobody has to be asked for it
    /// Nothing on the bridge keeps router advertisements away, so refuse them here.
    bool hush = false;
    bool default_route = true;
    bool by_device = false;  ///< the default route names no router (ipvlan's l3)
  };
  /// The other half; this object must have been opened inside the namespace, where the thread must still be.
  Result<void> configure_inside(const Endpoint& endpoint, const Inside& inside);
  /// Gives the workload's default routes to an endpoint that is configured; inside as well.
  Result<void> set_default_route(const Endpoint& endpoint, bool by_device);
  /// Parents of our own. The alias marks them as such.
  Result<uint32_t> make_dummy(const std::string& name, unsigned mtu, const std::string& alias);
  Result<uint32_t> make_vlan(const std::string& name, uint32_t below, uint16_t vlan, const std::string& alias);

  /// Returns when the bridge forwards for a port whose peer is up, and sends itself; else the first packets could be
  /// lost, for the kernel takes note of carriers in the background.
  Result<void> settle(uint32_t port_index, uint32_t bridge_index);
  /// Puts an endpoint whose link is there on the bridge again.
  Result<void> reconnect(const Endpoint& endpoint, uint32_t bridge_index);

  /// Takes an endpoint's neighbours away and closes its port for good; what is not there is success. The pair itself is
  /// left to the end of its namespace: to delete it would make the caller wait some 20 ms for the kernel's readers.
  Result<void> disconnect(const Endpoint& endpoint, uint32_t bridge_index);
  /// Removes permanent neighbours of the bridge that `keep` does not want; returns how many.
  Result<unsigned> sweep_neighbours(uint32_t bridge_index, const std::function<bool(const IpAddress&)>& keep);

 private:
  explicit Links(sys::NetlinkSocket socket) : socket_(std::move(socket)) {}
  Result<uint32_t> finish_parent(sys::NetlinkBatch& batch, const std::string& name, const std::string& alias);
  Result<void> run(sys::NetlinkBatch& batch, std::string_view what, std::initializer_list<int> tolerated = {});
  Result<void> dump(sys::NetlinkBatch& batch, std::string_view what,
                    const std::function<void(const sys::NetlinkMessage&)>& visit);
  sys::NetlinkSocket socket_;
};

}  // namespace hull::net
