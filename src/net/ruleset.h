#pragma once
// The nftables side: one table of our own, whose rules are constant and whose maps hold the published ports. Written
// straight in nf_tables' netlink messages: libnftables would cost a dynamic loader and a parser on the way of `run`.
// Internal to this room.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/network.h"
#include "sys/netlink.h"

namespace hull::net {

/// A published port and where it leads: an element of one of the table's maps.
struct PortRule {
  PublishedPort port;
  IpAddress target;  ///< the workload's address, of the family of port.host_ip
};

/// What the rules depend on beside the networks.
struct RulesetOptions {
  bool loopback6 = true;    ///< ::1 leads to published ports too
  bool frame_guard = true;  ///< have the second table, for frames on the bridge
};

/// NFT_TABLE_F_PERSIST, Linux 6.9: the table outlives its owner, and can be adopted. Newer than Debian 12's headers.
inline constexpr uint32_t kTablePersists = 4;

/// Whose a table is: nf_tables lets nobody but the owner's socket change an owned one, `nft flush ruleset` included.
enum class Holding : uint8_t {
  kAbsent,
  kOpen,      ///< anybody's
  kOrphaned,  ///< was owned, and may be taken by a new owner (Linux 6.9; before, it ends with its owner)
  kOwned,     ///< by a socket that is open somewhere
};

/// A base chain of anybody's, as far as doctor() needs it.
struct ChainInfo {
  std::string table, name;
  uint8_t family = 0;  ///< NFPROTO_*
  bool drops = false;  ///< policy drop
};

/// nf_tables in one network namespace: that in which open() was called.
class Ruleset {
 public:
  /// `table` names the table (family inet). kUnsupported when the kernel has no nf_tables.
  static Result<Ruleset> open(std::string table);

  /// The socket through which tables are changed from now on; they become its own when they are made or adopted.
  /// Nothing: our own socket, which owns nothing.
  void use_owner(std::optional<sys::NetlinkSocket> owner) { owner_ = std::move(owner); }
  /// In whose hands our table is.
  Result<Holding> holding();
  /// Makes orphaned tables (with `frame_guard` both) the owner socket's. kPermission: somebody else owns them.
  Result<void> adopt(bool frame_guard);

  /// The number that every change of any table raises by one.
  Result<uint32_t> generation();
  /// What our table holds now: a fingerprint of its chains and rules (0 when there is no table), and how many elements
  /// its maps have.
  struct State {
    uint64_t fingerprint = 0;
    size_t elements = 0;
    auto operator<=>(const State&) const = default;
  };
  Result<State> state();

  /// Replaces the tables in one transaction: nobody sees them half there. kUnsupported: the kernel has no tables for
  /// frames on bridges. This and all other changes: kPermission when the table is another socket's.
  Result<void> rebuild(std::span<const Network> networks, const RulesetOptions& options,
                       std::span<const PortRule> ports);
  /// What the rules have to know of a network; errors as those of the other add() and remove().
  Result<void> add(const Network& network);
  Result<void> remove(const Network& network);
  /// How many elements of sets that makes.
  static size_t elements(const Network& network);
  /// kNotFound: there is no such table; kConflict: an element was there with another target.
  Result<void> add(std::span<const PortRule> ports);
  /// kNotFound: a table or an element was not there; then nothing is removed.
  Result<void> remove(std::span<const PortRule> ports);
  /// Removes the table; absent is success.
  Result<void> tear_down();

  /// Base chains at the forward hook, of every table but ours.
  Result<std::vector<ChainInfo>> forward_chains();

 private:
  Ruleset(sys::NetlinkSocket socket, std::string table) : socket_(std::move(socket)), table_(std::move(table)) {}
  Result<std::vector<sys::NetlinkFailure>> commit(sys::NetlinkBatch& batch);
  Result<std::vector<sys::NetlinkFailure>> commit_fresh(std::span<const Network> networks,
                                                        const RulesetOptions& options, std::span<const PortRule> ports,
                                                        uint32_t table_flags, size_t* frame_messages);
  Result<void> change_elements(uint16_t message, uint16_t flags, std::span<const PortRule> ports);
  Result<void> carry_out(sys::NetlinkBatch& batch);
  void write_rules(sys::NetlinkBatch& batch, bool loopback6);
  void write_frame_guard(sys::NetlinkBatch& batch, uint32_t table_flags);
  Result<bool> fingerprint_chains(State& out, uint8_t family, std::span<const char* const> chains);
  sys::NetlinkSocket socket_;
  std::optional<sys::NetlinkSocket> owner_;
  std::string table_;
};

/// Forgets connections of datagram protocols that were translated to `target`: without a handshake they would go on to
/// reach an address that has passed to another workload. Looks at every tracked connection once.
Result<unsigned> forget_connections(const IpAddress& target, Protocol protocol);

}  // namespace hull::net
