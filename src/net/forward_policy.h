#pragma once
// Firewalls of others that drop what containers send: an accept in our table does not overrule a drop in theirs.
// Internal to this room.

#include <string>
#include <vector>

#include "net/address.h"
#include "net/ruleset.h"

namespace hull::net {

/// Who drops forwarded packets by default: base chains of nf_tables (iptables-nft included) and the FORWARD chain of
/// legacy iptables, each as people call it ("ip filter FORWARD", "iptables-legacy filter FORWARD").
std::vector<std::string> dropping_forward_chains(Ruleset& ruleset);

/// Whether the policy of FORWARD in the filter table of legacy (x_tables) iptables is DROP. Never loads the table.
bool legacy_forward_drops(Family family);

}  // namespace hull::net
