// Interfaces upon others: macvlan and ipvlan of workloads, VLANs and dummies as their parents.
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include "base/error_format.h"
#include "net/link.h"

namespace hull::net {
namespace {

using sys::NetlinkBatch;

ifinfomsg new_link(bool up) {
  ifinfomsg header{};
  if (up) header.ifi_flags = header.ifi_change = IFF_UP;
  return header;
}

uint32_t macvlan_mode(const std::string& mode) {
  if (mode == "private") return MACVLAN_MODE_PRIVATE;
  if (mode == "vepa") return MACVLAN_MODE_VEPA;
  if (mode == "passthru") return MACVLAN_MODE_PASSTHRU;
  return MACVLAN_MODE_BRIDGE;
}

uint16_t ipvlan_mode(const std::string& mode) {
  if (mode == "l3") return IPVLAN_MODE_L3;
  return mode == "l3s" ? IPVLAN_MODE_L3S : IPVLAN_MODE_L2;
}

uint16_t ipvlan_flags(const std::string& flag) {
  if (flag == "private") return IPVLAN_F_PRIVATE;
  return flag == "vepa" ? IPVLAN_F_VEPA : 0;
}

}  // namespace

Result<void> Links::connect_stacked(const Endpoint& endpoint, const Network& network, int netns_fd,
                                    uint32_t parent_index) {
  const bool macvlan = network.driver == Driver::kMacvlan;
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, new_link(false));
  batch.put_string(IFLA_IFNAME, endpoint.interface_name);
  batch.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(netns_fd));
  batch.put_u32(IFLA_LINK, parent_index);
  // The parent's is the most there can be; without a wish it is taken over.
  if (network.mtu_given) batch.put_u32(IFLA_MTU, network.mtu);
  if (macvlan && network.mode != "passthru") {
    batch.put(IFLA_ADDRESS, endpoint.mac.bytes.data(), endpoint.mac.bytes.size());
  }
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, macvlan ? "macvlan" : "ipvlan");
  batch.open_nest(IFLA_INFO_DATA);
  if (macvlan) {
    batch.put_u32(IFLA_MACVLAN_MODE, macvlan_mode(network.mode));
  } else {
    batch.put_u16(IFLA_IPVLAN_MODE, ipvlan_mode(network.mode));
    batch.put_u16(IFLA_IPVLAN_FLAGS, ipvlan_flags(network.flag));
  }
  batch.close_nest();
  batch.close_nest();
  batch.end();
  return run(batch, fmt::format("connect workload {} to network {} ({} upon {})", endpoint.workload_id, network.name,
                                macvlan ? "macvlan" : "ipvlan", network.parent));
}

Result<uint32_t> Links::make_dummy(const std::string& name, unsigned mtu, const std::string& alias) {
  const auto begin = [&](NetlinkBatch& batch, const char* kind) {
    batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, new_link(true));
    batch.put_string(IFLA_IFNAME, name);
    batch.put_u32(IFLA_MTU, mtu);
    batch.open_nest(IFLA_LINKINFO);
    batch.put_string(IFLA_INFO_KIND, kind);
  };
  NetlinkBatch batch;
  begin(batch, "dummy");
  batch.close_nest();
  batch.end();
  auto made = finish_parent(batch, name, alias);
  if (made.ok() || made.error().kind() != ErrorKind::kUnsupported) return made;
  // A kernel without dummies: a wire whose other end leads nowhere, and goes with it.
  batch.clear();
  begin(batch, "veth");
  batch.open_nest(IFLA_INFO_DATA);
  batch.open_nest(VETH_INFO_PEER);
  batch.put_raw(new_link(false));
  const std::string other_end = "dp-" + name.substr(name.find('-') + 1);
  batch.put_string(IFLA_IFNAME, other_end);
  batch.close_nest();
  batch.close_nest();
  batch.close_nest();
  batch.end();
  batch.begin(RTM_NEWLINK, 0, new_link(true));  // only once both are there
  batch.put_string(IFLA_IFNAME, other_end);
  batch.end();
  return finish_parent(batch, name, alias);
}

Result<uint32_t> Links::make_vlan(const std::string& name, uint32_t below, uint16_t vlan, const std::string& alias) {
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, new_link(true));
  batch.put_string(IFLA_IFNAME, name);
  batch.put_u32(IFLA_LINK, below);
  batch.open_nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "vlan");
  batch.open_nest(IFLA_INFO_DATA);
  batch.put_u16(IFLA_VLAN_ID, vlan);
  batch.close_nest();
  batch.close_nest();
  batch.end();
  return finish_parent(batch, name, alias);
}

Result<uint32_t> Links::finish_parent(NetlinkBatch& batch, const std::string& name, const std::string& alias) {
  const std::string what = fmt::format("make the parent interface {}", name);
  TRY(run(batch, what));
  TRY_ASSIGN(const auto link, find(name));
  if (!link) return errorf(ErrorKind::kConflict, "{}: it was removed at the same time", what);
  // set_alias also tells ours from others' when the network is removed.
  TRY(set_alias(link->index, alias));
  return link->index;
}

}  // namespace hull::net
