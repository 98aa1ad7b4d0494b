#pragma once
// Hull as an ordinary user. All commands of a user meet in one user namespace, with a mount and a network namespace of
// its own; in them the user is root, and everything else of Hull works as it does for root. hull-rootless keeps them:
// a process inside that does nothing else, and one outside that listens on published ports (see keeper.h).
//
// Nothing here is set-uid but newuidmap and newgidmap, which the keeper asks once for the ranges of /etc/subuid.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "sys/user_namespace.h"

namespace hull::rootless {

/// True for an ordinary user who has not entered yet. Costs no system call.
bool needed();
/// True inside (and in all programs that were started inside). Costs no system call.
inline bool inside() { return sys::in_user_namespace(); }

struct Folders {
  std::string data;  ///< HULL_ROOT, or $XDG_DATA_HOME/hull, ~/.local/share/hull
  std::string run;   ///< HULL_RUN, or $XDG_RUNTIME_DIR/hull, /run/user/UID/hull, /tmp/hull-UID
};
/// kPermission when the run folder belongs to somebody else; kInvalid without a home.
Result<Folders> folders();

/// Puts an ordinary user's folders into the environment (HULL_ROOT, HULL_RUN, HULL_CONFIG) and makes the run folder,
/// for a program that opens sockets before it enters. Nothing for root, and inside.
Result<void> settle();

/// Goes inside, for good, when needed(): the namespaces that are there, or new ones that hull-rootless makes. Sets
/// HULL_ROOT, HULL_RUN and sys::kUserVariable, and HULL_CONFIG when ~/.config/hull/hull.toml is there; the working
/// folder stays. The process must have one thread. Errors say what to do: user namespaces forbidden, newuidmap missing,
/// no range in /etc/subuid, pasta missing.
Result<void> enter();

/// True once in the life of a process, when a killed keeper was replaced on the way in: published ports are to be asked
/// for again. Costs no system call.
bool keeper_was_replaced();

/// One published port as the keeper takes it.
struct PortRequest {
  bool udp = false;
  std::string address;  ///< of the host, "0.0.0.0", "::1"; IPv6 without brackets
  uint16_t port = 0;
  /// Whose port it is, by pid and start time; 0: the lease is the descriptor.
  pid_t owner = 0;
  uint64_t owner_start = 0;
};
/// Asks the keeper to listen on a port of the host and to pass what comes to the same port inside. The descriptor keeps
/// it: when its last copy is closed, the port is closed. With an owner the descriptor is nothing, and the port is open
/// until that process ends: for ports that a killed keeper had. Only inside. kConflict: somebody has the port;
/// kPermission: a port below net.ipv4.ip_unprivileged_port_start; kUnavailable: the keeper is gone.
Result<UniqueFd> publish(const PortRequest& request);

/// What an ordinary user lacks here, with the next step; nothing when all is there. For `hull doctor`.
struct Lack {
  std::string subject, finding, advice;
};
std::vector<Lack> lacks();

/// The process whose namespaces are these; kept in run/rootless.
struct Keeper {
  pid_t inside_pid = 0, outside_pid = 0;
  uint64_t inside_start = 0, outside_start = 0;
  uint64_t user_inode = 0, mount_inode = 0, network_inode = 0;  ///< of the namespaces
};
Result<Keeper> parse_keeper(std::string_view text);
std::string print_keeper(const Keeper& keeper);
/// The number of a namespace of a process ("user", "mnt", "net"); 0 when it can't be told.
uint64_t namespace_inode(pid_t pid, const char* name);

/// One range of /etc/subuid.
struct IdRange {
  uint32_t start = 0, count = 0;
};
/// The ranges of a user (by name or number) in a file of "name:start:count" lines; lines that make no sense are left
/// out, as newuidmap does.
std::vector<IdRange> parse_ranges(std::string_view text, std::string_view name, uid_t id);

}  // namespace hull::rootless
