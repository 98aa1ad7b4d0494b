#pragma once
// Writes one nf_tables rule as the expressions that the kernel runs. Registers are the 32-bit ones (NFT_REG32_00 + n).
// Internal to this room.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "net/address.h"
#include "sys/netlink.h"

namespace hull::net {

/// Where an address or a port lies in a packet.
enum class AddressSide : uint8_t { kSource, kDestination };

/// Message type of nf_tables within nfnetlink.
uint16_t nft_type(uint16_t message);
/// The fixed part of its messages.
struct NftHeader {
  uint8_t family;
  uint8_t version = 0;
  uint16_t resource = 0;
};

/// A named set of the table: its id within the transaction that makes it.
struct NftSet {
  std::string_view name;
  uint32_t id;
};

/// NftRule(batch, table, chain).input_in(set).address(...).verdict(...): the last call ends the message.
class NftRule {
 public:
  /// `family` is NFPROTO_INET or NFPROTO_BRIDGE.
  NftRule(sys::NetlinkBatch& batch, uint8_t family, std::string_view table, std::string_view chain);
  NftRule(const NftRule&) = delete;
  NftRule& operator=(const NftRule&) = delete;
  ~NftRule();

  /// Matches. Each is the like-named match of nft(8).
  NftRule& input_in(const NftSet& set);
  NftRule& output_in(const NftSet& set, bool inside = true);
  /// iifname . oifname
  NftRule& devices_in(const NftSet& set);
  NftRule& source_in(Family family, const NftSet& set);
  /// The group that the interface of arrival belongs to (IFLA_GROUP).
  NftRule& input_group(uint32_t group);
  NftRule& ipv6_frame_with_icmpv6_type(uint8_t type);
  NftRule& family(Family family);
  NftRule& address(AddressSide side, const Subnet& subnet);
  NftRule& state_established_or_related();
  NftRule& was_dnatted();
  NftRule& local_destination();
  /// TCP or UDP, and a port of it (host order).
  NftRule& port(AddressSide side, uint8_t protocol, uint16_t number);

  /// Loads: into the register, and how many 32-bit registers it fills.
  NftRule& load_destination(Family family, unsigned reg);
  NftRule& load_protocol(unsigned reg);
  NftRule& load_destination_port(unsigned reg);

  /// Looks the key at register 0 up; a hit puts the value there, a miss ends the rule.
  NftRule& map(std::string_view set, uint32_t set_id);
  /// dnat to the address at register 0 and the port in `port_reg`.
  void dnat(Family family, unsigned port_reg);
  void masquerade();
  /// Writes a port of TCP or UDP over, without connection tracking; the checksum follows.
  void set_port(AddressSide side, uint8_t protocol, uint16_t number);
  void verdict(int32_t code);
  void jump(std::string_view chain);

 private:
  NftRule& load_device(uint32_t key, unsigned reg);
  NftRule& in_set(const NftSet& set, bool inside);
  NftRule& compare(uint32_t operation, const void* data, size_t size);
  NftRule& any_bit(uint32_t mask);
  NftRule& payload(uint32_t base, uint32_t offset, uint32_t size, unsigned reg);
  void open(std::string_view name);
  void close();
  sys::NetlinkBatch& batch_;
};

}  // namespace hull::net
