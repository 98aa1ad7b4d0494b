#pragma once
// hull-rootless: makes the namespaces of a user and keeps them. Two processes:
// - the inside one is the first of the namespaces, and hands sockets of their network to the other one;
// - the outside one starts pasta (the way out), and listens on the host's ports that workloads publish. It has no more
//   rights than the user. A connection that comes is joined to one to the same port inside, where nftables leads it on.
// Ends a moment after the last monitor and command inside are gone, and takes the inside one and pasta with it. Ended
// earlier by a signal, or with the inside one, it leaves the record and pasta to the next keeper; workloads go on.

#include "base/error.h"

namespace hull::rootless {

/// hull-rootless --run-dir DIR [--join PID]. Returns 0 when the keeper runs.
int main(int argc, char** argv);

}  // namespace hull::rootless
