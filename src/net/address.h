#pragma once
// Addresses as values: IPv4, IPv6, subnets and MAC addresses, parsed strictly and printed canonically.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace hull::net {

enum class Family : uint8_t { kV4 = 4, kV6 = 6 };

/// One IPv4 or IPv6 address. Bytes are in network order; an IPv4 address uses the first four, the others are zero.
class IpAddress {
 public:
  IpAddress() = default;
  /// Dotted quad without leading zeros, or RFC 4291 text without zone; kInvalid otherwise.
  static Result<IpAddress> parse(std::string_view text);
  static IpAddress from_v4(uint32_t host_order);
  static IpAddress from_bytes(Family family, const uint8_t* bytes);

  Family family() const { return family_; }
  bool is_v4() const { return family_ == Family::kV4; }
  const uint8_t* data() const { return bytes_.data(); }
  /// 4 or 16.
  size_t size() const { return is_v4() ? 4 : 16; }
  /// Host order; only for IPv4.
  uint32_t v4() const;
  /// 0.0.0.0 or ::.
  bool is_unspecified() const;
  /// 127.0.0.0/8, ::1, and ::ffff:127.0.0.0/104.
  bool is_loopback() const;
  /// 224.0.0.0/4 or ff00::/8.
  bool is_multicast() const;
  /// This address + `offset` in its low 64 bits (32 for IPv4).
  IpAddress plus(uint64_t offset) const;
  std::string str() const;
  auto operator<=>(const IpAddress&) const = default;

 private:
  Family family_ = Family::kV4;
  std::array<uint8_t, 16> bytes_{};
};

/// A network address and its prefix length; host bits are zero.
class Subnet {
 public:
  Subnet() = default;
  /// "172.30.0.0/16", "fd00::/64"; host bits must be zero (kInvalid, with the corrected form in the message).
  static Result<Subnet> parse(std::string_view text);
  /// Zeroes the host bits of `address`.
  static Subnet of(const IpAddress& address, unsigned prefix_length);

  const IpAddress& base() const { return base_; }
  unsigned prefix_length() const { return prefix_length_; }
  Family family() const { return base_.family(); }
  bool contains(const IpAddress& address) const;
  bool overlaps(const Subnet& other) const;
  /// Addresses in it, at most 2^63.
  uint64_t size() const;
  /// The last address (IPv4: the broadcast address).
  IpAddress last() const;
  /// address - base(), in the low 64 bits; the address must be inside.
  uint64_t offset_of(const IpAddress& address) const;
  std::string str() const;
  auto operator<=>(const Subnet&) const = default;

 private:
  IpAddress base_;
  unsigned prefix_length_ = 0;
};

/// A 48-bit Ethernet address.
struct MacAddress {
  std::array<uint8_t, 6> bytes{};
  /// "02:42:ac:1e:00:02" or with dashes. Multicast and all-zero addresses are kInvalid: no interface can have them.
  static Result<MacAddress> parse(std::string_view text);
  /// Locally administered (02:…), derived from an address: the same address always gets the same one, so that
  /// neighbour caches stay true when an address is given to the next workload.
  static MacAddress derived_from(const IpAddress& address);
  std::string str() const;
  auto operator<=>(const MacAddress&) const = default;
};

}  // namespace hull::net
