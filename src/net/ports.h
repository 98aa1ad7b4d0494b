#pragma once
// Published ports: Docker's -p grammar, as data.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/address.h"

namespace hull::net {

enum class Protocol : uint8_t { kTcp = 6, kUdp = 17, kSctp = 132 };  // the numbers of IANA's protocol registry

std::string_view to_string(Protocol protocol);
/// "tcp", "udp", "sctp" in any case.
Result<Protocol> parse_protocol(std::string_view text);

/// One container port to publish.
struct PortMapping {
  /// Nothing: every address of the host, IPv4 and IPv6. 0.0.0.0 or ::: every one of that family.
  std::optional<IpAddress> host_ip;
  /// The first host port that may be taken; 0: any free one of the host's ephemeral range.
  uint16_t host_port = 0;
  /// The last one that may be taken; equal to host_port unless a choice is given ("8000-8010:80").
  uint16_t host_port_last = 0;
  uint16_t container_port = 0;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const PortMapping&) const = default;
};

/// A port as it is published: every field is decided. What was published on both families is two of these.
struct PublishedPort {
  IpAddress host_ip;  ///< may be 0.0.0.0 or ::
  uint16_t host_port = 0;
  uint16_t container_port = 0;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const PublishedPort&) const = default;
  /// "0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp".
  std::string str() const;
};

/// Docker's --publish grammar: [[host-ip]:][host-port[-last]]:container-port[-last][/protocol], IPv6 in brackets. A
/// range of container ports needs a host range of equal length (or none); a single container port with a host range
/// takes the first free one. Errors are kInvalid and quote the specification.
Result<std::vector<PortMapping>> parse_port_spec(std::string_view spec);

/// --expose and an image's ExposedPorts: port[-last][/protocol]; the mappings have host_port 0.
Result<std::vector<PortMapping>> parse_expose_spec(std::string_view spec);

}  // namespace hull::net
