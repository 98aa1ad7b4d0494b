#include "net/nft_rule.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <array>
#include <cstring>

namespace hull::net {
namespace {

constexpr unsigned kRegister0 = NFT_REG32_00;
// enum of linux/netfilter/nf_conntrack_tuple_common.h: IP_CT_ESTABLISHED and IP_CT_RELATED as `ct state` bits.
constexpr uint32_t kStateEstablished = 1u << (IP_CT_ESTABLISHED + 1);
constexpr uint32_t kStateRelated = 1u << (IP_CT_RELATED + 1);

}  // namespace

uint16_t nft_type(uint16_t message) { return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message); }

NftRule::NftRule(sys::NetlinkBatch& batch, uint8_t family, std::string_view table, std::string_view chain)
    : batch_(batch) {
  batch_.begin(nft_type(NFT_MSG_NEWRULE), NLM_F_CREATE | NLM_F_APPEND, NftHeader{family});
  batch_.put_string(NFTA_RULE_TABLE, table);
  batch_.put_string(NFTA_RULE_CHAIN, chain);
  batch_.open_nest(NFTA_RULE_EXPRESSIONS);
}

NftRule::~NftRule() {
  batch_.close_nest();
  batch_.end();
}

void NftRule::open(std::string_view name) {
  batch_.open_nest(NFTA_LIST_ELEM);
  batch_.put_string(NFTA_EXPR_NAME, name);
  batch_.open_nest(NFTA_EXPR_DATA);
}

void NftRule::close() {
  batch_.close_nest();
  batch_.close_nest();
}

NftRule& NftRule::compare(uint32_t operation, const void* data, size_t size) {
  open("cmp");
  batch_.put_be32(NFTA_CMP_SREG, kRegister0);
  batch_.put_be32(NFTA_CMP_OP, operation);
  batch_.open_nest(NFTA_CMP_DATA);
  batch_.put(NFTA_DATA_VALUE, data, size);
  batch_.close_nest();
  close();
  return *this;
}

NftRule& NftRule::input_group(uint32_t group) {
  open("meta");
  batch_.put_be32(NFTA_META_KEY, NFT_META_IIFGROUP);
  batch_.put_be32(NFTA_META_DREG, kRegister0);
  close();
  return compare(NFT_CMP_EQ, &group, sizeof(group));
}

NftRule& NftRule::ipv6_frame_with_icmpv6_type(uint8_t type) {
  // Family bridge has no "nfproto"; its frames have an Ethernet type.
  static constexpr std::array<uint8_t, 2> kIpv6{0x86, 0xdd};
  static constexpr uint8_t kIcmpv6 = 58;
  open("meta");
  batch_.put_be32(NFTA_META_KEY, NFT_META_PROTOCOL);
  batch_.put_be32(NFTA_META_DREG, kRegister0);
  close();
  compare(NFT_CMP_EQ, kIpv6.data(), kIpv6.size());
  load_protocol(0).compare(NFT_CMP_EQ, &kIcmpv6, sizeof(kIcmpv6));
  return payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, sizeof(type), 0).compare(NFT_CMP_EQ, &type, sizeof(type));
}

NftRule& NftRule::family(Family family) {
  open("meta");
  batch_.put_be32(NFTA_META_KEY, NFT_META_NFPROTO);
  batch_.put_be32(NFTA_META_DREG, kRegister0);
  close();
  const uint8_t protocol = family == Family::kV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
  return compare(NFT_CMP_EQ, &protocol, sizeof(protocol));
}

NftRule& NftRule::payload(uint32_t base, uint32_t offset, uint32_t size, unsigned reg) {
  open("payload");
  batch_.put_be32(NFTA_PAYLOAD_DREG, kRegister0 + reg);
  batch_.put_be32(NFTA_PAYLOAD_BASE, base);
  batch_.put_be32(NFTA_PAYLOAD_OFFSET, offset);
  batch_.put_be32(NFTA_PAYLOAD_LEN, size);
  close();
  return *this;
}

NftRule& NftRule::address(AddressSide side, const Subnet& subnet) {
  family(subnet.family());
  const auto size = static_cast<uint32_t>(subnet.base().size());
  const uint32_t source_at = subnet.base().is_v4() ? 12 : 8;  // in the network header
  payload(NFT_PAYLOAD_NETWORK_HEADER, side == AddressSide::kSource ? source_at : source_at + size, size, 0);
  if (subnet.prefix_length() < size * 8) {
    std::array<uint8_t, 16> ones;
    ones.fill(0xff);
    const Subnet mask = Subnet::of(IpAddress::from_bytes(subnet.family(), ones.data()), subnet.prefix_length());
    static constexpr std::array<uint8_t, 16> kZero{};
    open("bitwise");
    batch_.put_be32(NFTA_BITWISE_SREG, kRegister0);
    batch_.put_be32(NFTA_BITWISE_DREG, kRegister0);
    batch_.put_be32(NFTA_BITWISE_LEN, size);
    batch_.open_nest(NFTA_BITWISE_MASK);
    batch_.put(NFTA_DATA_VALUE, mask.base().data(), size);
    batch_.close_nest();
    batch_.open_nest(NFTA_BITWISE_XOR);
    batch_.put(NFTA_DATA_VALUE, kZero.data(), size);
    batch_.close_nest();
    close();
  }
  return compare(NFT_CMP_EQ, subnet.base().data(), size);
}

// Of a 32-bit value in host order in register 0.
NftRule& NftRule::any_bit(uint32_t mask) {
  static constexpr uint32_t kZero = 0;
  open("bitwise");
  batch_.put_be32(NFTA_BITWISE_SREG, kRegister0);
  batch_.put_be32(NFTA_BITWISE_DREG, kRegister0);
  batch_.put_be32(NFTA_BITWISE_LEN, sizeof(mask));
  batch_.open_nest(NFTA_BITWISE_MASK);
  batch_.put(NFTA_DATA_VALUE, &mask, sizeof(mask));
  batch_.close_nest();
  batch_.open_nest(NFTA_BITWISE_XOR);
  batch_.put(NFTA_DATA_VALUE, &kZero, sizeof(kZero));
  batch_.close_nest();
  close();
  return compare(NFT_CMP_NEQ, &kZero, sizeof(kZero));
}

NftRule& NftRule::state_established_or_related() {
  open("ct");
  batch_.put_be32(NFTA_CT_KEY, NFT_CT_STATE);
  batch_.put_be32(NFTA_CT_DREG, kRegister0);
  close();
  return any_bit(kStateEstablished | kStateRelated);
}

NftRule& NftRule::was_dnatted() {
  open("ct");
  batch_.put_be32(NFTA_CT_KEY, NFT_CT_STATUS);
  batch_.put_be32(NFTA_CT_DREG, kRegister0);
  close();
  return any_bit(IPS_DST_NAT);
}

NftRule& NftRule::local_destination() {
  open("fib");
  batch_.put_be32(NFTA_FIB_DREG, kRegister0);
  batch_.put_be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  batch_.put_be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
  close();
  static constexpr uint32_t kLocal = RTN_LOCAL;
  return compare(NFT_CMP_EQ, &kLocal, sizeof(kLocal));
}

NftRule& NftRule::port(AddressSide side, uint8_t protocol, uint16_t number) {
  load_protocol(0).compare(NFT_CMP_EQ, &protocol, sizeof(protocol));
  const uint16_t wire = __builtin_bswap16(number);
  return payload(NFT_PAYLOAD_TRANSPORT_HEADER, side == AddressSide::kSource ? 0 : 2, sizeof(wire), 0)
      .compare(NFT_CMP_EQ, &wire, sizeof(wire));
}

NftRule& NftRule::load_destination(Family family, unsigned reg) {
  return family == Family::kV4 ? payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, reg)
                               : payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16, reg);
}

NftRule& NftRule::load_protocol(unsigned reg) {
  open("meta");
  batch_.put_be32(NFTA_META_KEY, NFT_META_L4PROTO);
  batch_.put_be32(NFTA_META_DREG, kRegister0 + reg);
  close();
  return *this;
}

// The destination port of TCP, UDP and SCTP alike: bytes 2 and 3 of their headers.
NftRule& NftRule::load_destination_port(unsigned reg) { return payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, reg); }

NftRule& NftRule::map(std::string_view set, uint32_t set_id) {
  open("lookup");
  batch_.put_string(NFTA_LOOKUP_SET, set);
  batch_.put_be32(NFTA_LOOKUP_SET_ID, set_id);
  batch_.put_be32(NFTA_LOOKUP_SREG, kRegister0);
  batch_.put_be32(NFTA_LOOKUP_DREG, kRegister0);
  close();
  return *this;
}

NftRule& NftRule::in_set(const NftSet& set, bool inside) {
  open("lookup");
  batch_.put_string(NFTA_LOOKUP_SET, set.name);
  batch_.put_be32(NFTA_LOOKUP_SET_ID, set.id);
  batch_.put_be32(NFTA_LOOKUP_SREG, kRegister0);
  if (!inside) batch_.put_be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  close();
  return *this;
}

NftRule& NftRule::load_device(uint32_t key, unsigned reg) {
  open("meta");
  batch_.put_be32(NFTA_META_KEY, key);
  batch_.put_be32(NFTA_META_DREG, kRegister0 + reg);
  close();
  return *this;
}

NftRule& NftRule::input_in(const NftSet& set) { return load_device(NFT_META_IIFNAME, 0).in_set(set, true); }

NftRule& NftRule::output_in(const NftSet& set, bool inside) {
  return load_device(NFT_META_OIFNAME, 0).in_set(set, inside);
}

NftRule& NftRule::devices_in(const NftSet& set) {
  return load_device(NFT_META_IIFNAME, 0).load_device(NFT_META_OIFNAME, IFNAMSIZ / 4).in_set(set, true);
}

NftRule& NftRule::source_in(Family family, const NftSet& set) {
  this->family(family);
  payload(NFT_PAYLOAD_NETWORK_HEADER, family == Family::kV4 ? 12 : 8, family == Family::kV4 ? 4 : 16, 0);
  return in_set(set, true);
}

void NftRule::dnat(Family family, unsigned port_reg) {
  open("nat");
  batch_.put_be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
  batch_.put_be32(NFTA_NAT_FAMILY, family == Family::kV4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
  batch_.put_be32(NFTA_NAT_REG_ADDR_MIN, kRegister0);
  batch_.put_be32(NFTA_NAT_REG_PROTO_MIN, kRegister0 + port_reg);
  close();
}

void NftRule::masquerade() {
  open("masq");
  close();
}

void NftRule::set_port(AddressSide side, uint8_t protocol, uint16_t number) {
  const uint16_t wire = __builtin_bswap16(number);
  open("immediate");
  batch_.put_be32(NFTA_IMMEDIATE_DREG, kRegister0);
  batch_.open_nest(NFTA_IMMEDIATE_DATA);
  batch_.put(NFTA_DATA_VALUE, &wire, sizeof(wire));
  batch_.close_nest();
  close();
  open("payload");
  batch_.put_be32(NFTA_PAYLOAD_SREG, kRegister0);
  batch_.put_be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
  batch_.put_be32(NFTA_PAYLOAD_OFFSET, side == AddressSide::kSource ? 0 : 2);
  batch_.put_be32(NFTA_PAYLOAD_LEN, sizeof(wire));
  batch_.put_be32(NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
  batch_.put_be32(NFTA_PAYLOAD_CSUM_OFFSET, protocol == IPPROTO_TCP ? 16 : 6);
  close();
}

void NftRule::verdict(int32_t code) {
  open("immediate");
  batch_.put_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  batch_.open_nest(NFTA_IMMEDIATE_DATA);
  batch_.open_nest(NFTA_DATA_VERDICT);
  batch_.put_be32(NFTA_VERDICT_CODE, static_cast<uint32_t>(code));
  batch_.close_nest();
  batch_.close_nest();
  close();
}

void NftRule::jump(std::string_view chain) {
  open("immediate");
  batch_.put_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  batch_.open_nest(NFTA_IMMEDIATE_DATA);
  batch_.open_nest(NFTA_DATA_VERDICT);
  batch_.put_be32(NFTA_VERDICT_CODE, static_cast<uint32_t>(NFT_JUMP));
  batch_.put_string(NFTA_VERDICT_CHAIN, chain);
  batch_.close_nest();
  batch_.close_nest();
  close();
}

}  // namespace hull::net
