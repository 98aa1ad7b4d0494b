#pragma once
// A container's networks given to a machine. Whoever set the network namespace up (the engine, Podman, Docker) put
// interfaces with addresses and routes into it, as for any container. Here each becomes a mere cable: its address moves
// into the guest, and a bridge joins it with a tap of the machine's. (A bridge and no redirecting filter, since kernels
// without traffic-control classifiers exist.)
//
// Everything works in the calling process's network namespace: the supervisor, which has one thread, lives in it.

#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/agent_client.h"

namespace hull::vm {

/// Names in the namespace: "hulltap0" and the bridge "hullbr0" belong to the machine's first card.
std::string tap_name(size_t card);
std::string bridge_name(size_t card);

/// A tap that belongs to the machine, not yet up. kUnsupported without /dev/net/tun.
Result<UniqueFd> open_tap(size_t card);

/// How many interfaces that a machine could take are in the namespace now: Ethernet's kind, and up.
Result<size_t> count_interfaces();

/// For each of the machine's cards what the guest makes of it: takes MAC, MTU, addresses and routes from an interface
/// (in the order of their names: eth0, eth1) and joins it with the card's tap. A card without one (network "none") is
/// to stay down. kUnsupported when there are more interfaces than cards, or one of a kind that can't be a bridge's
/// port.
Result<std::vector<guest::proto::Interface>> hand_over_network(size_t cards);

/// "02:…" with random bytes: locally administered.
Result<std::string> random_mac();

}  // namespace hull::vm
