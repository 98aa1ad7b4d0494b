#pragma once
// What the two halves of hull-dns give up. The keeper goes on entering network namespaces, binding port 53 there and
// writing two rules, and starting workers; it never reads a byte of a container or of the network, and it can execute,
// mount and trace nothing. The worker has an empty root, no user, no capability, and can make sockets and nothing else.

#include <string>

#include "base/error.h"

namespace hull::net::dns {

/// The calling process for ever. Needs root, of a user namespace at least.
Result<void> confine_keeper();
/// `empty_dir` becomes the root. In a child of the keeper.
Result<void> confine_worker(const std::string& empty_dir);

}  // namespace hull::net::dns
