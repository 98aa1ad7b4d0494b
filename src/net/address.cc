#include "net/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::net {
namespace {

uint64_t load_be(const uint8_t* bytes, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

// The mask's byte `index` for a prefix length.
uint8_t mask_byte(unsigned prefix_length, size_t index) {
  const int bits = std::clamp(static_cast<int>(prefix_length) - static_cast<int>(index) * 8, 0, 8);
  return static_cast<uint8_t>(0xff00u >> bits);
}

}  // namespace

Result<IpAddress> IpAddress::parse(std::string_view text) {
  // inet_pton is strict: four decimal parts without leading zeros, or RFC 4291 text; no zone, no port.
  const std::string terminated(text);
  IpAddress out;
  if (text.size() < INET6_ADDRSTRLEN && text.find('\0') == std::string_view::npos) {
    if (::inet_pton(AF_INET, terminated.c_str(), out.bytes_.data()) == 1) return out;
    out.bytes_.fill(0);
    out.family_ = Family::kV6;
    if (::inet_pton(AF_INET6, terminated.c_str(), out.bytes_.data()) == 1) return out;
  }
  return errorf(ErrorKind::kInvalid, "invalid IP address: {}", text.substr(0, 64));
}

IpAddress IpAddress::from_v4(uint32_t host_order) {
  IpAddress out;
  for (size_t i = 0; i < 4; ++i) out.bytes_[i] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
  return out;
}

IpAddress IpAddress::from_bytes(Family family, const uint8_t* bytes) {
  IpAddress out;
  out.family_ = family;
  std::memcpy(out.bytes_.data(), bytes, out.size());
  return out;
}

uint32_t IpAddress::v4() const { return static_cast<uint32_t>(load_be(bytes_.data(), 4)); }

bool IpAddress::is_unspecified() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes_[0] == 127;
  static constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(kMapped.begin(), kMapped.end(), bytes_.begin())) return bytes_[12] == 127;
  return load_be(bytes_.data(), 8) == 0 && load_be(bytes_.data() + 8, 8) == 1;
}

bool IpAddress::is_multicast() const { return is_v4() ? bytes_[0] >> 4 == 0xe : bytes_[0] == 0xff; }

IpAddress IpAddress::plus(uint64_t offset) const {
  if (is_v4()) return from_v4(v4() + static_cast<uint32_t>(offset));
  IpAddress out = *this;
  const uint64_t low = load_be(bytes_.data() + 8, 8) + offset;
  for (size_t i = 0; i < 8; ++i) out.bytes_[8 + i] = static_cast<uint8_t>(low >> (56 - 8 * i));
  return out;
}

std::string IpAddress::str() const {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), text, sizeof(text));
}

Result<Subnet> Subnet::parse(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    return errorf(ErrorKind::kInvalid, "invalid subnet {}: it needs a prefix length, such as 172.30.0.0/16",
                  text.substr(0, 64));
  }
  TRY_ASSIGN(const IpAddress address, IpAddress::parse(text.substr(0, slash)));
  auto length = parse_int(text.substr(slash + 1), 0, static_cast<int64_t>(address.size()) * 8);
  if (!length.ok()) return errorf(ErrorKind::kInvalid, "invalid subnet {}: bad prefix length", text.substr(0, 64));
  const Subnet out = of(address, static_cast<unsigned>(*length));
  if (out.base() != address) {
    return errorf(ErrorKind::kInvalid, "invalid subnet {}: host bits are set; meant is {}", text, out.str());
  }
  return out;
}

Subnet Subnet::of(const IpAddress& address, unsigned prefix_length) {
  std::array<uint8_t, 16> bytes{};
  for (size_t i = 0; i < address.size(); ++i) bytes[i] = address.data()[i] & mask_byte(prefix_length, i);
  Subnet out;
  out.base_ = IpAddress::from_bytes(address.family(), bytes.data());
  out.prefix_length_ = prefix_length;
  return out;
}

bool Subnet::contains(const IpAddress& address) const {
  return address.family() == family() && of(address, prefix_length_).base_ == base_;
}

bool Subnet::overlaps(const Subnet& other) const {
  return prefix_length_ <= other.prefix_length_ ? contains(other.base_) : other.contains(base_);
}

uint64_t Subnet::size() const {
  const size_t bits = base_.size() * 8 - prefix_length_;
  return uint64_t{1} << std::min<size_t>(bits, 63);
}

IpAddress Subnet::last() const {
  std::array<uint8_t, 16> bytes{};
  for (size_t i = 0; i < base_.size(); ++i) {
    bytes[i] = base_.data()[i] | static_cast<uint8_t>(~mask_byte(prefix_length_, i));
  }
  return IpAddress::from_bytes(family(), bytes.data());
}

uint64_t Subnet::offset_of(const IpAddress& address) const {
  if (address.is_v4()) return address.v4() - base_.v4();
  return load_be(address.data() + 8, 8) - load_be(base_.data() + 8, 8);
}

std::string Subnet::str() const { return fmt::format("{}/{}", base_.str(), prefix_length_); }

Result<MacAddress> MacAddress::parse(std::string_view text) {
  MacAddress out;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  bool good = text.size() == 17 && (text[2] == ':' || text[2] == '-');
  for (size_t i = 0; good && i < 6; ++i) {
    const int high = digit(text[3 * i]);
    const int low = digit(text[3 * i + 1]);
    good = high >= 0 && low >= 0 && (i == 5 || text[3 * i + 2] == text[2]);
    out.bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  if (!good) return errorf(ErrorKind::kInvalid, "invalid MAC address: {}", text.substr(0, 64));
  if ((out.bytes[0] & 1) != 0)
    return errorf(ErrorKind::kInvalid, "invalid MAC address: {} is a multicast address", text);
  if (out == MacAddress{}) return errorf(ErrorKind::kInvalid, "invalid MAC address: {} is all zero", text);
  return out;
}

MacAddress MacAddress::derived_from(const IpAddress& address) {
  const uint8_t* tail = address.data() + address.size() - 4;
  return {{0x02, address.is_v4() ? uint8_t{0x42} : uint8_t{0x46}, tail[0], tail[1], tail[2], tail[3]}};
}

std::string MacAddress::str() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4],
                     bytes[5]);
}

}  // namespace hull::net
