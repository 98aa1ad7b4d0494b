#pragma once
// The host's side of virtio-vsock: a unix socket for each machine instead of AF_VSOCK, so that no kernel module is
// needed and who may reach a guest is decided by the folder's mode. The host connects to PATH, says "CONNECT <port>\n"
// and gets "OK <number>\n"; what the guest connects to port P of CID 2 arrives at PATH_P.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

struct VsockSocket {
  UniqueFd listener;  ///< non-blocking, listening at PATH
  UniqueFd folder;    ///< where PATH lies; as a mount of its own when that is permitted, so that ".." leads nowhere
  std::string name;   ///< PATH's last part
};

/// Binds PATH. A socket file that nobody listens to is replaced; kConflict when somebody does.
Result<VsockSocket> listen_vsock(const std::string& path);

/// The port of "CONNECT <port>" (without the newline).
std::optional<uint32_t> parse_vsock_greeting(std::string_view line);
inline constexpr size_t kLongestVsockGreeting = 24;

/// Reads the greeting's line, and nothing beyond it, from a non-blocking socket: appends to `line`. True when the line
/// is complete (its newline is taken, not kept); false when it is not yet. An error when it can't become one.
Result<bool> read_vsock_greeting(int socket, std::string* line);

/// A new connection to "<name>_<port>" in the current folder, non-blocking; invalid when there is none.
UniqueFd connect_vsock_port(const std::string& name, uint32_t port);

}  // namespace hull::vmm
