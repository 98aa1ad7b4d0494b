#pragma once
// Clients of a monitor and the descriptors that they handed over.

#include <cstddef>
#include <cstdint>

#include "engine/monitor/protocol.h"

namespace hull::engine::monitor {

inline constexpr int kMaxClients = 16;
/// A client other than the one that started the workload may hold the workload up this long; then it is dropped.
inline constexpr int64_t kSlowClientNs = 10'000'000'000;

struct Client {
  int control = -1;
  int output[2] = {-1, -1};  // the client's pipes for streams 1 and 2
  int input = -1;
  size_t taken[2] = {0, 0};  // bytes of the current chunk that it has
  bool waiting[2] = {false, false};
  int64_t waiting_since_ns = 0;
  bool primary = false;
  bool owns_cleanup = false;
};

/// Receives one message and at most three descriptors. Returns 1, 0 at the end of the connection, -1 when there is
/// nothing now. A message of the wrong size counts as the end.
int receive(int socket, Message* message, int fds[3], int* fd_count);
/// Sends without waiting; false when the peer is gone or does not read.
bool send(int socket, const Message& message);

int64_t now_ns();

}  // namespace hull::engine::monitor
