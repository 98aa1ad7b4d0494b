#pragma once
// Between commands inside and hull-rootless: a seqpacket socket run/rootless.sock. "tcp 8080 0.0.0.0 0 0" is answered
// with kPublished or an errno; the connection is the lease of the port. With "PID START" instead of zeros that process
// is. Internal to this room.

#include <sys/un.h>

#include <string_view>

namespace hull::rootless {

inline constexpr std::string_view kPublished = "published";

/// Through a descriptor of the folder: its name may be longer than sun_path.
sockaddr_un keeper_address(int run_dir_fd);

}  // namespace hull::rootless
