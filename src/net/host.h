#pragma once
// What the manager asks of the host around the kernel's networking: sockets that test and hold ports, sysctls, and the
// choice of subnets. Internal to this room.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/link.h"
#include "net/network.h"

namespace hull::net {

/// Binds a port in the calling thread's namespace, as a test and, while the descriptor lives, as a claim. An invalid
/// descriptor: the port is free but can't be held (connections of an earlier server are still winding up, or the
/// kernel has no SCTP). kConflict: a program of the host has it; kInvalid: not an address of this host.
Result<UniqueFd> claim_port(const PublishedPort& port);

/// The range that the kernel takes ports from for outgoing connections; where free ones are looked for.
std::pair<uint16_t, uint16_t> ephemeral_range();

/// Whether IPv6 is in the kernel and not switched off for new interfaces.
bool host_has_ipv6();
/// Whether frames that a bridge forwards pass through nftables (br_netfilter, net.bridge.bridge-nf-call-ip[6]tables).
struct BridgeFilters {
  bool v4 = false, v6 = false;
};
BridgeFilters bridge_filters();

struct Forwarding {
  bool enabled4 = false, enabled6 = false;  ///< we had to switch it on
};
/// Switches forwarding on. For IPv6 the host's interfaces first learn to go on accepting router advertisements, which a
/// forwarding kernel otherwise ignores (accept_ra 1 becomes 2), so that the host keeps its default route.
Result<Forwarding> enable_forwarding(bool ipv6);
Result<bool> is_forwarding(Family family);
/// The bridge's own sysctls: loopback addresses may be routed to it, its router advertisements are not believed.
Result<void> prepare_bridge(const std::string& device);

/// The first subnet of a fixed list that overlaps no route of the host; kNoSpace when all do. `avoid` empty: one for
/// the default network; else one for another, that overlaps none of these.
Result<Subnet> choose_subnet4(Links& links, const std::vector<Subnet>& avoid = {});
/// A route that overlaps, other than those of the link `except`.
Result<std::optional<Subnet>> colliding_route(Links& links, const Subnet& subnet, uint32_t except);
/// fdXX:XXXX:XXXX:0::/64 with 40 random bits (RFC 4193, 3.2).
Result<Subnet> random_subnet6();

}  // namespace hull::net
