#pragma once
// A container's network given to a machine. Whoever set the network namespace up (the engine, Podman, Docker) put an
// interface with addresses and routes into it, as for any container. Here it becomes a mere cable: its address moves
// into the guest, and a bridge joins it with the machine's tap. (A bridge and no redirecting filter, since kernels
// without traffic-control classifiers exist.)
//
// Everything works in the calling process's network namespace: the supervisor, which has one thread, lives in it.

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/agent_client.h"

namespace hull::vm {

inline constexpr const char* kTapName = "hulltap0";
inline constexpr const char* kJoinName = "hullbr0";  ///< the bridge

/// A tap that belongs to the machine, not yet up. kUnsupported without /dev/net/tun.
Result<UniqueFd> open_tap();

/// Takes MAC, MTU, addresses and routes from the namespace's interface and joins it with the tap. Without an interface
/// (network "none") the guest's is to stay down. kUnsupported when there is more than one, or one of a kind that can't
/// be a bridge's port.
Result<guest::proto::Interface> hand_over_network();

/// "02:…" with random bytes: locally administered.
Result<std::string> random_mac();

}  // namespace hull::vm
