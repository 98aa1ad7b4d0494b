#pragma once
// Descriptors over unix sockets (SCM_RIGHTS), as console sockets and seccomp agents take them.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

/// Connects a stream socket to a path of any length (long ones through /proc/self/fd).
Result<UniqueFd> connect_unix(const std::string& path);
/// Sends the text (at least one byte) with the descriptors, which stay the caller's.
Result<void> send_fds(int socket, std::string_view text, const std::vector<int>& fds);
struct ReceivedFds {
  std::string text;
  std::vector<UniqueFd> fds;
};
/// One message of at most 4,096 bytes and 32 descriptors; every descriptor is close-on-exec. Empty text is the end.
Result<ReceivedFds> receive_fds(int socket);

}  // namespace hull::sys
