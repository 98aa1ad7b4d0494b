#include "net/ruleset.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "net/link.h"
#include "net/nft_rule.h"

namespace hull::net {
namespace {

using sys::Bytes;
using sys::NetlinkBatch;
using sys::NetlinkFailure;
using sys::NetlinkMessage;

// nft(8)'s numbers of types, so that `nft list table` prints our maps as people know them.
constexpr uint32_t kTypeIpv4 = 7, kTypeIpv6 = 8, kTypeProtocol = 12, kTypeService = 13;
constexpr uint32_t concatenated(std::initializer_list<uint32_t> types) {
  uint32_t out = 0;
  for (const uint32_t type : types) out = out << 6 | type;
  return out;
}

// A map from what a client asks for to where it goes. Parts of keys and values are padded to 32 bits.
struct MapShape {
  const char* name;
  uint32_t id;  // within the transaction that makes it
  Family family;
  bool with_address;  // the host address is part of the key
  uint32_t key_type, key_size, value_type, value_size;
  uint32_t address_size() const { return family == Family::kV4 ? 4 : 16; }
};
constexpr std::array<MapShape, 4> kMaps{{
    {"published_at4", 1, Family::kV4, true, concatenated({kTypeIpv4, kTypeProtocol, kTypeService}), 12,
     concatenated({kTypeIpv4, kTypeService}), 8},
    {"published4", 2, Family::kV4, false, concatenated({kTypeProtocol, kTypeService}), 8,
     concatenated({kTypeIpv4, kTypeService}), 8},
    {"published_at6", 3, Family::kV6, true, concatenated({kTypeIpv6, kTypeProtocol, kTypeService}), 24,
     concatenated({kTypeIpv6, kTypeService}), 20},
    {"published6", 4, Family::kV6, false, concatenated({kTypeProtocol, kTypeService}), 8,
     concatenated({kTypeIpv6, kTypeService}), 20},
}};

const MapShape& map_of(const PublishedPort& port) {
  const bool with_address = !port.host_ip.is_unspecified();
  return *std::find_if(kMaps.begin(), kMaps.end(), [&](const MapShape& shape) {
    return shape.family == port.host_ip.family() && shape.with_address == with_address;
  });
}

// What the rules know of networks, so that they stay the same for one or a hundred.
constexpr NftSet kBridges{"bridges", 5};    // the devices
constexpr NftSet kWithin{"within", 6};      // a device and itself: its workloads may reach one another
constexpr NftSet kInternal{"internal", 7};  // devices that nothing is forwarded from or to
constexpr NftSet kOwn4{"own4", 8};          // subnets that go out under the host's address
constexpr NftSet kOwn6{"own6", 9};
struct SetShape {
  NftSet set;
  uint32_t key_type, key_size;
  bool interval;
};
constexpr uint32_t kTypeIfname = 41, kNameSize = 16;
constexpr std::array<SetShape, 5> kSets{{
    {kBridges, kTypeIfname, kNameSize, false},
    {kWithin, concatenated({kTypeIfname, kTypeIfname}), 2 * kNameSize, false},
    {kInternal, kTypeIfname, kNameSize, false},
    {kOwn4, kTypeIpv4, 4, true},
    {kOwn6, kTypeIpv6, 16, true},
}};

constexpr const char* kGuard = "guard";
constexpr const char* kPublish = "publish";
constexpr const char* kArriving = "arriving";
constexpr const char* kLocal = "local";
constexpr const char* kLeaving = "leaving";
constexpr const char* kCrossing = "crossing";
constexpr const char* kEntering = "entering";

struct BaseChain {
  const char* name;
  const char* type;
  uint32_t hook;
  int32_t priority;
};
constexpr std::array<BaseChain, 5> kBaseChains{{
    {kGuard, "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW},
    {kArriving, "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST},
    {kLocal, "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST},
    {kLeaving, "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC},
    {kCrossing, "filter", NF_INET_FORWARD, NF_IP_PRI_FILTER},
}};

// Before anything else looks at a frame that a port of a bridge took in.
constexpr const char* kFrames = "frames";
constexpr BaseChain kFrameChain{kFrames, "filter", NF_BR_PRE_ROUTING, -300};

constexpr NftHeader kInet{NFPROTO_INET};
// How many elements go into one message: with at most 84 bytes each they stay below the 65,535 of an attribute.
constexpr size_t kElementsPerMessage = 512;
// Types of ICMPv6 that a host sends without being asked: multicast listeners (RFC 2710, 3810), routers (RFC 4861).
constexpr std::array<uint8_t, 6> kUnasked{131, 132, 143, 133, 134, 137};

void batch_edge(NetlinkBatch& batch, uint16_t type) {
  batch.begin(type, 0, NftHeader{AF_UNSPEC, 0, htons(NFNL_SUBSYS_NFTABLES)});
  batch.end();
}

void write_table(NetlinkBatch& batch, uint8_t family, uint16_t message, uint16_t flags, const std::string& table,
                 uint32_t table_flags = 0) {
  batch.begin(nft_type(message), flags, NftHeader{family});
  batch.put_string(NFTA_TABLE_NAME, table);
  if (table_flags != 0) batch.put_be32(NFTA_TABLE_FLAGS, table_flags);
  batch.end();
}

// Makes the table, empty whatever was in it.
void write_fresh_table(NetlinkBatch& batch, uint8_t family, const std::string& table, uint32_t table_flags) {
  write_table(batch, family, NFT_MSG_NEWTABLE, NLM_F_CREATE, table);  // so that the removal finds one
  write_table(batch, family, NFT_MSG_DELTABLE, 0, table);
  write_table(batch, family, NFT_MSG_NEWTABLE, NLM_F_CREATE, table, table_flags);
}

void write_chain(NetlinkBatch& batch, uint8_t family, const std::string& table, const char* name,
                 const BaseChain* base) {
  batch.begin(nft_type(NFT_MSG_NEWCHAIN), NLM_F_CREATE, NftHeader{family});
  batch.put_string(NFTA_CHAIN_TABLE, table);
  batch.put_string(NFTA_CHAIN_NAME, name);
  if (base != nullptr) {
    batch.open_nest(NFTA_CHAIN_HOOK);
    batch.put_be32(NFTA_HOOK_HOOKNUM, base->hook);
    batch.put_be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(base->priority));
    batch.close_nest();
    batch.put_be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
    batch.put_string(NFTA_CHAIN_TYPE, base->type);
  }
  batch.end();
}

void write_map(NetlinkBatch& batch, const std::string& table, const MapShape& shape) {
  batch.begin(nft_type(NFT_MSG_NEWSET), NLM_F_CREATE, kInet);
  batch.put_string(NFTA_SET_TABLE, table);
  batch.put_string(NFTA_SET_NAME, shape.name);
  batch.put_be32(NFTA_SET_FLAGS, NFT_SET_MAP);
  batch.put_be32(NFTA_SET_KEY_TYPE, shape.key_type);
  batch.put_be32(NFTA_SET_KEY_LEN, shape.key_size);
  batch.put_be32(NFTA_SET_DATA_TYPE, shape.value_type);
  batch.put_be32(NFTA_SET_DATA_LEN, shape.value_size);
  batch.put_be32(NFTA_SET_ID, shape.id);
  batch.end();
}

// Bytes of a key or a value, each part padded to 32 bits.
class Packed {
 public:
  void address(const IpAddress& address) { part(address.data(), address.size()); }
  void port(uint16_t port) {
    const uint16_t network = htons(port);
    part(&network, sizeof(network));
  }
  void protocol(Protocol protocol) { part(&protocol, sizeof(protocol)); }
  void put(NetlinkBatch& batch, uint16_t attribute) const {
    batch.open_nest(attribute);
    batch.put(NFTA_DATA_VALUE, bytes_.data(), size_);
    batch.close_nest();
  }

 private:
  void part(const void* data, size_t size) {
    std::memcpy(bytes_.data() + size_, data, size);
    size_ += (size + 3) & ~size_t{3};
  }
  std::array<uint8_t, 32> bytes_{};
  size_t size_ = 0;
};

void write_element(NetlinkBatch& batch, const MapShape& shape, const PortRule& rule, bool with_value) {
  Packed key;
  if (shape.with_address) key.address(rule.port.host_ip);
  key.protocol(rule.port.protocol);
  key.port(rule.port.host_port);
  batch.open_nest(NFTA_LIST_ELEM);
  key.put(batch, NFTA_SET_ELEM_KEY);
  if (with_value) {
    Packed value;
    value.address(rule.target);
    value.port(rule.port.container_port);
    value.put(batch, NFTA_SET_ELEM_DATA);
  }
  batch.close_nest();
}

// Messages for all rules that belong to one map.
void write_elements(NetlinkBatch& batch, const std::string& table, const MapShape& shape, uint16_t message,
                    uint16_t flags, std::span<const PortRule> rules) {
  size_t in_message = 0;
  for (const PortRule& rule : rules) {
    if (&map_of(rule.port) != &shape) continue;
    if (in_message == 0) {
      batch.begin(nft_type(message), flags, kInet);
      batch.put_string(NFTA_SET_ELEM_LIST_TABLE, table);
      batch.put_string(NFTA_SET_ELEM_LIST_SET, shape.name);
      batch.open_nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    }
    write_element(batch, shape, rule, message == NFT_MSG_NEWSETELEM);
    if (++in_message == kElementsPerMessage) {
      batch.close_nest();
      batch.end();
      in_message = 0;
    }
  }
  if (in_message != 0) {
    batch.close_nest();
    batch.end();
  }
}

void write_set(NetlinkBatch& batch, const std::string& table, const SetShape& shape) {
  batch.begin(nft_type(NFT_MSG_NEWSET), NLM_F_CREATE, kInet);
  batch.put_string(NFTA_SET_TABLE, table);
  batch.put_string(NFTA_SET_NAME, shape.set.name);
  batch.put_be32(NFTA_SET_FLAGS, shape.interval ? NFT_SET_INTERVAL : 0);
  batch.put_be32(NFTA_SET_KEY_TYPE, shape.key_type);
  batch.put_be32(NFTA_SET_KEY_LEN, shape.key_size);
  batch.put_be32(NFTA_SET_ID, shape.set.id);
  batch.end();
}

// One element of a network in a set; of an interval the first address and the one after the last.
struct NetworkElement {
  const NftSet* set;
  std::vector<uint8_t> key;
  bool end = false;
};

std::vector<NetworkElement> elements_of(const Network& network) {
  std::vector<NetworkElement> out;
  if (network.driver != Driver::kBridge) return out;
  std::vector<uint8_t> name(kNameSize);
  std::copy_n(network.bridge_device.begin(), std::min<size_t>(network.bridge_device.size(), kNameSize - 1),
              name.begin());
  out.push_back({&kBridges, name});
  if (network.between) {
    std::vector<uint8_t> both = name;
    both.insert(both.end(), name.begin(), name.end());
    out.push_back({&kWithin, std::move(both)});
  }
  if (network.internal) out.push_back({&kInternal, name});
  if (network.internal || !network.masquerade) return out;
  const auto add_subnet = [&](const NftSet* set, const Subnet& subnet) {
    const IpAddress after = subnet.last().plus(1);
    out.push_back({set, {subnet.base().data(), subnet.base().data() + subnet.base().size()}});
    out.push_back({set, {after.data(), after.data() + after.size()}, true});
  };
  add_subnet(&kOwn4, network.subnet4);
  if (network.subnet6) add_subnet(&kOwn6, *network.subnet6);
  return out;
}

void write_network(NetlinkBatch& batch, const std::string& table, uint16_t message, uint16_t flags,
                   const Network& network) {
  const std::vector<NetworkElement> elements = elements_of(network);
  for (const SetShape& shape : kSets) {
    const auto belongs = [&](const NetworkElement& one) { return one.set->id == shape.set.id; };
    if (std::none_of(elements.begin(), elements.end(), belongs)) continue;
    batch.begin(nft_type(message), flags, kInet);
    batch.put_string(NFTA_SET_ELEM_LIST_TABLE, table);
    batch.put_string(NFTA_SET_ELEM_LIST_SET, shape.set.name);
    batch.open_nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const NetworkElement& one : elements) {
      if (!belongs(one)) continue;
      batch.open_nest(NFTA_LIST_ELEM);
      batch.open_nest(NFTA_SET_ELEM_KEY);
      batch.put(NFTA_DATA_VALUE, one.key.data(), one.key.size());
      batch.close_nest();
      if (one.end) batch.put_be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
      batch.close_nest();
    }
    batch.close_nest();
    batch.end();
  }
}

uint64_t fnv1a(uint64_t hash, Bytes bytes) {
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}
constexpr uint64_t kFnvStart = 0xcbf29ce484222325;

}  // namespace

Result<Ruleset> Ruleset::open(std::string table) {
  TRY_ASSIGN(auto socket, sys::NetlinkSocket::open(NETLINK_NETFILTER));
  return Ruleset(std::move(socket), std::move(table));
}

Result<std::vector<NetlinkFailure>> Ruleset::commit(NetlinkBatch& batch) {
  batch_edge(batch, NFNL_MSG_BATCH_END);
  return owner_ ? owner_->exchange(batch) : socket_.exchange(batch);
}

Result<void> Ruleset::adopt(bool frame_guard) {
  NetlinkBatch batch;
  batch_edge(batch, NFNL_MSG_BATCH_BEGIN);
  for (const uint8_t family : {NFPROTO_BRIDGE, NFPROTO_INET}) {
    if (family == NFPROTO_BRIDGE && !frame_guard) continue;
    write_table(batch, family, NFT_MSG_NEWTABLE, 0, table_, NFT_TABLE_F_OWNER | kTablePersists);
  }
  return carry_out(batch);
}

Result<bool> Ruleset::fingerprint_chains(State& out, uint8_t family, std::span<const char* const> chains) {
  const auto hash_all = [&](NetlinkBatch& batch) -> Result<bool> {
    TRY_ASSIGN(const auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
      if (message.payload.size() < sizeof(NftHeader)) return;
      // The header ends with the generation, which changes with every table's changes.
      out.fingerprint = fnv1a(out.fingerprint, message.payload.subspan(sizeof(NftHeader)));
    }));
    if (failures.empty()) return true;
    if (failures.front().error == ENOENT || failures.front().error == EAFNOSUPPORT) return false;
    return sys::netlink_error(failures.front(), fmt::format("read the nftables table {}", table_));
  };
  NetlinkBatch batch;
  for (const char* name : chains) {
    batch.begin(nft_type(NFT_MSG_GETCHAIN), 0, NftHeader{family});
    batch.put_string(NFTA_CHAIN_TABLE, table_);
    batch.put_string(NFTA_CHAIN_NAME, name);
    batch.end();
  }
  TRY_ASSIGN(const bool has_chains, hash_all(batch));
  if (!has_chains) return false;
  batch.clear();
  batch.begin(nft_type(NFT_MSG_GETRULE), NLM_F_DUMP, NftHeader{family});
  batch.put_string(NFTA_RULE_TABLE, table_);
  batch.end();
  return hash_all(batch);
}

Result<Ruleset::State> Ruleset::state() {
  State out;
  out.fingerprint = kFnvStart;
  std::array<const char*, kBaseChains.size() + 2> names{kPublish, kEntering};
  for (size_t i = 0; i < kBaseChains.size(); ++i) names[i + 2] = kBaseChains[i].name;
  TRY_ASSIGN(const bool whole, fingerprint_chains(out, NFPROTO_INET, names));
  if (!whole) return State{};
  static constexpr std::array<const char*, 1> kFrameNames{kFrames};
  State frames{out.fingerprint, 0};
  TRY_ASSIGN(const bool guarded, fingerprint_chains(frames, NFPROTO_BRIDGE, kFrameNames));
  if (guarded) out.fingerprint = frames.fingerprint;

  NetlinkBatch batch;
  std::vector<std::string_view> sets;
  for (const MapShape& shape : kMaps) sets.emplace_back(shape.name);
  for (const SetShape& shape : kSets) sets.push_back(shape.set.name);
  for (const std::string_view name : sets) {
    batch.clear();
    batch.begin(nft_type(NFT_MSG_GETSETELEM), NLM_F_DUMP, kInet);
    batch.put_string(NFTA_SET_ELEM_LIST_TABLE, table_);
    batch.put_string(NFTA_SET_ELEM_LIST_SET, name);
    batch.end();
    TRY_ASSIGN(const auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
      if (message.payload.size() < sizeof(NftHeader)) return;
      sys::for_each_attribute(message.payload.subspan(sizeof(NftHeader)), [&](uint16_t type, Bytes value) {
        if (type == NFTA_SET_ELEM_LIST_ELEMENTS) {
          sys::for_each_attribute(value, [&](uint16_t, Bytes) { ++out.elements; });
        }
      });
    }));
    if (!failures.empty()) {
      if (failures.front().error == ENOENT) return State{};
      return sys::netlink_error(failures.front(), fmt::format("read the nftables set {}", name));
    }
  }
  return out;
}

void Ruleset::write_rules(NetlinkBatch& batch, bool loopback6) {
  const Subnet loopback4_net = Subnet::of(IpAddress::from_v4(127u << 24), 8);
  const Subnet loopback6_net = Subnet::of(IpAddress::parse("::1").value_or({}), 128);

  // route_localnet on the bridge (and a second route of ::1 to it) lets the host's own connections to its loopback
  // addresses reach a container; it must not let a container reach what listens there (the like of CVE-2020-8558).
  for (const Subnet& loopback : {loopback4_net, loopback6_net}) {
    for (const AddressSide side : {AddressSide::kDestination, AddressSide::kSource}) {
      NftRule(batch, NFPROTO_INET, table_, kGuard).address(side, loopback).input_in(kBridges).verdict(NF_DROP);
    }
  }

  // A published port is an element of a map, so the rules stay the same for one port or a thousand.
  for (const MapShape& shape : kMaps) {
    NftRule rule(batch, NFPROTO_INET, table_, kPublish);
    rule.family(shape.family);
    const unsigned address_registers = shape.address_size() / 4;
    unsigned reg = 0;
    if (shape.with_address) {
      rule.load_destination(shape.family, reg);
      reg += address_registers;
    }
    rule.load_protocol(reg)
        .load_destination_port(reg + 1)
        .map(shape.name, shape.id)
        .dnat(shape.family, address_registers);
  }

  // From outside, a loopback address is a lie: translating it would open what is published on 127.0.0.1 only, because
  // it happens before the kernel looks for such packets.
  for (const Subnet& loopback : {loopback4_net, loopback6_net}) {
    NftRule(batch, NFPROTO_INET, table_, kArriving).address(AddressSide::kDestination, loopback).verdict(NFT_RETURN);
  }
  // Only what is addressed to this host: never what it forwards, or reaches a container's own address.
  NftRule(batch, NFPROTO_INET, table_, kArriving).local_destination().jump(kPublish);
  if (!loopback6)
    NftRule(batch, NFPROTO_INET, table_, kLocal).address(AddressSide::kDestination, loopback6_net).verdict(NFT_RETURN);
  NftRule(batch, NFPROTO_INET, table_, kLocal).local_destination().jump(kPublish);

  // The host's loopback has no meaning in a container; and a container that reaches another one through a published
  // port must see the answer come back the same way. Everybody else's address is kept.
  for (const Subnet& loopback : {loopback4_net, loopback6_net}) {
    NftRule(batch, NFPROTO_INET, table_, kLeaving)
        .address(AddressSide::kSource, loopback)
        .output_in(kBridges)
        .masquerade();
  }
  for (const auto& [family, own] : {std::pair(Family::kV4, kOwn4), std::pair(Family::kV6, kOwn6)}) {
    NftRule(batch, NFPROTO_INET, table_, kLeaving)
        .source_in(family, own)
        .output_in(kBridges)
        .was_dnatted()
        .masquerade();
    NftRule(batch, NFPROTO_INET, table_, kLeaving).source_in(family, own).output_in(kBridges, false).masquerade();
  }

  // To containers: answers, what others on the same network send, and what was asked of a published port. Nothing is
  // forwarded from or to an internal network, and nothing from one network to another.
  NftRule(batch, NFPROTO_INET, table_, kCrossing).output_in(kBridges).jump(kEntering);
  NftRule(batch, NFPROTO_INET, table_, kCrossing).input_in(kInternal).verdict(NF_DROP);
  NftRule(batch, NFPROTO_INET, table_, kEntering).state_established_or_related().verdict(NF_ACCEPT);
  NftRule(batch, NFPROTO_INET, table_, kEntering).devices_in(kWithin).verdict(NF_ACCEPT);
  NftRule(batch, NFPROTO_INET, table_, kEntering).output_in(kInternal).verdict(NF_DROP);
  NftRule(batch, NFPROTO_INET, table_, kEntering).input_in(kInternal).verdict(NF_DROP);
  NftRule(batch, NFPROTO_INET, table_, kEntering).was_dnatted().verdict(NF_ACCEPT);
  NftRule(batch, NFPROTO_INET, table_, kEntering).verdict(NF_DROP);
}

void Ruleset::write_frame_guard(NetlinkBatch& batch, uint32_t table_flags) {
  write_fresh_table(batch, NFPROTO_BRIDGE, table_, table_flags);
  write_chain(batch, NFPROTO_BRIDGE, table_, kFrames, &kFrameChain);
  // What each container's kernel sends of its own accord would be copied to a thousand others; and nobody on the bridge
  // is a router for the others (CVE-2020-13401).
  for (const uint8_t type : kUnasked) {
    NftRule(batch, NFPROTO_BRIDGE, table_, kFrames)
        .input_group(kPortGroup)
        .ipv6_frame_with_icmpv6_type(type)
        .verdict(NF_DROP);
  }
}

Result<std::vector<NetlinkFailure>> Ruleset::commit_fresh(std::span<const Network> networks,
                                                          const RulesetOptions& options,
                                                          std::span<const PortRule> ports, uint32_t table_flags,
                                                          size_t* frame_messages) {
  NetlinkBatch batch;
  batch_edge(batch, NFNL_MSG_BATCH_BEGIN);
  if (options.frame_guard) write_frame_guard(batch, table_flags);
  *frame_messages = batch.count();
  write_fresh_table(batch, NFPROTO_INET, table_, table_flags);
  for (const BaseChain& base : kBaseChains) write_chain(batch, NFPROTO_INET, table_, base.name, &base);
  for (const char* chain : {kPublish, kEntering}) write_chain(batch, NFPROTO_INET, table_, chain, nullptr);
  for (const MapShape& shape : kMaps) write_map(batch, table_, shape);
  for (const SetShape& shape : kSets) write_set(batch, table_, shape);
  write_rules(batch, options.loopback6);
  for (const Network& network : networks) write_network(batch, table_, NFT_MSG_NEWSETELEM, NLM_F_CREATE, network);
  for (const MapShape& shape : kMaps) {
    write_elements(batch, table_, shape, NFT_MSG_NEWSETELEM, NLM_F_CREATE, ports);
  }
  return commit(batch);
}

Result<void> Ruleset::rebuild(std::span<const Network> networks, const RulesetOptions& options,
                              std::span<const PortRule> ports) {
  size_t frame_messages = 0;
  std::vector<NetlinkFailure> failures;
  // Owned if there is an owner, and to outlive it where the kernel can do that.
  for (const uint32_t flags : {NFT_TABLE_F_OWNER | kTablePersists, uint32_t{NFT_TABLE_F_OWNER}, uint32_t{0}}) {
    if (flags != 0 && !owner_) continue;
    TRY_ASSIGN(failures, commit_fresh(networks, options, ports, flags, &frame_messages));
    if (failures.empty()) return {};
    if (failures.front().error != EOPNOTSUPP) break;
  }
  if (failures.front().error == EPERM)
    return sys::netlink_error(failures.front(), fmt::format("make the nftables table inet {}", table_));
  if (options.frame_guard && failures.front().index < frame_messages) {
    return sys::netlink_error(failures.front(), "make an nftables table for bridges").as(ErrorKind::kUnsupported);
  }
  return sys::netlink_error(
      failures.front(), fmt::format("make the nftables table inet {} (message {})", table_, failures.front().index));
}

Result<void> Ruleset::carry_out(NetlinkBatch& batch) {
  TRY_ASSIGN(const auto failures, commit(batch));
  if (failures.empty()) return {};
  const int error = failures.front().error;
  auto out = sys::netlink_error(failures.front(), fmt::format("change the nftables table inet {}", table_));
  if (error == ENOENT) return std::move(out).as(ErrorKind::kNotFound);
  if (error == EEXIST || error == EBUSY || error == ENOTEMPTY) return std::move(out).as(ErrorKind::kConflict);
  return out;
}

Result<void> Ruleset::change_elements(uint16_t message, uint16_t flags, std::span<const PortRule> ports) {
  if (ports.empty()) return {};
  NetlinkBatch batch;
  batch_edge(batch, NFNL_MSG_BATCH_BEGIN);
  for (const MapShape& shape : kMaps) write_elements(batch, table_, shape, message, flags, ports);
  return carry_out(batch);
}

Result<void> Ruleset::add(const Network& network) {
  NetlinkBatch batch;
  batch_edge(batch, NFNL_MSG_BATCH_BEGIN);
  write_network(batch, table_, NFT_MSG_NEWSETELEM, NLM_F_CREATE, network);
  return carry_out(batch);
}

Result<void> Ruleset::remove(const Network& network) {
  NetlinkBatch batch;
  batch_edge(batch, NFNL_MSG_BATCH_BEGIN);
  write_network(batch, table_, NFT_MSG_DELSETELEM, 0, network);
  return carry_out(batch);
}

size_t Ruleset::elements(const Network& network) { return elements_of(network).size(); }

Result<void> Ruleset::add(std::span<const PortRule> ports) {
  return change_elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, ports);
}

Result<void> Ruleset::remove(std::span<const PortRule> ports) { return change_elements(NFT_MSG_DELSETELEM, 0, ports); }

Result<void> Ruleset::tear_down() {
  for (const uint8_t family : {NFPROTO_BRIDGE, NFPROTO_INET}) {
    NetlinkBatch batch;
    batch_edge(batch, NFNL_MSG_BATCH_BEGIN);
    write_table(batch, family, NFT_MSG_DELTABLE, 0, table_);
    TRY_ASSIGN(const auto failures, commit(batch));
    if (failures.empty() || failures.front().error == ENOENT) continue;
    if (family == NFPROTO_BRIDGE) continue;  // the kernel has none
    return sys::netlink_error(failures.front(), fmt::format("remove the nftables table inet {}", table_));
  }
  return {};
}

}  // namespace hull::net
