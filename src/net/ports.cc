#include "net/ports.h"

#include <algorithm>
#include <cctype>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::net {
namespace {

// "80" or "8000-8010"; a range of one is that one.
struct Range {
  uint16_t first = 0, last = 0;
  unsigned count() const { return 1u + last - first; }
};

Result<Range> parse_range(std::string_view text) {
  const size_t dash = text.find('-');
  TRY_ASSIGN(const int64_t first, parse_int(text.substr(0, dash), 0, 65535));
  int64_t last = first;
  if (dash != std::string_view::npos) {
    TRY_ASSIGN(last, parse_int(text.substr(dash + 1), 0, 65535));
  }
  if (last < first) return errorf(ErrorKind::kInvalid, "the range goes backwards");
  return Range{static_cast<uint16_t>(first), static_cast<uint16_t>(last)};
}

struct ContainerSide {
  Range ports;
  Protocol protocol = Protocol::kTcp;
};

// Everything after the last ':' of a specification. `spec` is the whole, for messages.
Result<ContainerSide> parse_container_side(std::string_view text, std::string_view spec) {
  ContainerSide out;
  const size_t slash = text.find('/');
  const std::string_view ports = text.substr(0, slash);
  if (ports.empty()) return errorf(ErrorKind::kInvalid, "no port specified: {}<empty>", spec);
  if (slash != std::string_view::npos && slash + 1 < text.size()) {
    TRY_ASSIGN(out.protocol, parse_protocol(text.substr(slash + 1)));
  }
  auto range = parse_range(ports);
  if (!range.ok() || range->first == 0) {
    return errorf(ErrorKind::kInvalid, "invalid containerPort: {} (in '{}'; ports are 1 to 65535)", ports, spec);
  }
  out.ports = *range;
  return out;
}

Result<IpAddress> parse_host_ip(std::string_view text, std::string_view spec) {
  std::string_view bare = text;
  if (bare.front() == '[') {
    if (bare.size() < 2 || bare.back() != ']') {
      return errorf(ErrorKind::kInvalid, "invalid IP address: {} (in '{}'; the bracket is not closed)", text, spec);
    }
    bare = bare.substr(1, bare.size() - 2);
  }
  auto address = IpAddress::parse(bare);
  if (!address.ok()) return errorf(ErrorKind::kInvalid, "invalid IP address: {} (in '{}')", text, spec);
  if (address->is_multicast()) {
    return errorf(ErrorKind::kInvalid, "invalid IP address: {} (in '{}'; it is a multicast address)", text, spec);
  }
  return *address;
}

constexpr size_t kLongestSpec = 256;

}  // namespace

std::string_view to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "tcp";
    case Protocol::kUdp:
      return "udp";
    case Protocol::kSctp:
      return "sctp";
  }
  return "?";
}

Result<Protocol> parse_protocol(std::string_view text) {
  std::string lower(text.substr(0, 32));
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    if (lower == to_string(protocol)) return protocol;
  }
  return errorf(ErrorKind::kInvalid, "invalid proto: {} (tcp, udp and sctp are known)", lower);
}

std::string PublishedPort::str() const {
  return fmt::format("{}{}{}:{}->{}/{}", host_ip.is_v4() ? "" : "[", host_ip.str(), host_ip.is_v4() ? "" : "]",
                     host_port, container_port, to_string(protocol));
}

Result<std::vector<PortMapping>> parse_port_spec(std::string_view spec) {
  if (spec.size() > kLongestSpec) {
    return errorf(ErrorKind::kInvalid, "invalid port specification: '{}…' is longer than {} bytes", spec.substr(0, 40),
                  kLongestSpec);
  }
  // From the right: container side, host port, host address (which may hold colons of its own).
  std::string_view rest = spec;
  const auto take_last = [&rest]() {
    const size_t colon = rest.rfind(':');
    const std::string_view part = colon == std::string_view::npos ? rest : rest.substr(colon + 1);
    rest = colon == std::string_view::npos ? std::string_view() : rest.substr(0, colon);
    return part;
  };
  TRY_ASSIGN(const ContainerSide container, parse_container_side(take_last(), spec));
  const std::string_view host_text = take_last();
  std::optional<IpAddress> host_ip;
  if (!rest.empty()) {
    TRY_ASSIGN(host_ip, parse_host_ip(rest, spec));
  }

  Range host;
  const unsigned count = container.ports.count();
  if (!host_text.empty()) {
    auto parsed = parse_range(host_text);
    if (!parsed.ok()) {
      return errorf(ErrorKind::kInvalid, "invalid hostPort: {} (in '{}'; ports are 0 to 65535)", host_text, spec);
    }
    host = *parsed;
    if (host.count() != count && count != 1) {
      return errorf(ErrorKind::kInvalid,
                    "invalid ranges specified for container and host Ports: {} and {} (in '{}'; they must be of the "
                    "same length)",
                    fmt::format("{}-{}", container.ports.first, container.ports.last), host_text, spec);
    }
    if (host.first == 0 && host.last != 0) {
      return errorf(ErrorKind::kInvalid, "invalid hostPort: {} (in '{}'; a range can't start at 0)", host_text, spec);
    }
  }

  std::vector<PortMapping> out(count);
  for (unsigned i = 0; i < count; ++i) {
    PortMapping& mapping = out[i];
    mapping.host_ip = host_ip;
    mapping.container_port = static_cast<uint16_t>(container.ports.first + i);
    mapping.protocol = container.protocol;
    if (host.first == 0) continue;  // any free port
    mapping.host_port = static_cast<uint16_t>(host.first + i);
    mapping.host_port_last = count == 1 ? host.last : mapping.host_port;
  }
  return out;
}

Result<std::vector<PortMapping>> parse_expose_spec(std::string_view spec) {
  if (spec.size() > kLongestSpec || spec.find(':') != std::string_view::npos) {
    return errorf(ErrorKind::kInvalid, "invalid port format for --expose: {}", spec.substr(0, 40));
  }
  return parse_port_spec(spec);
}

}  // namespace hull::net
