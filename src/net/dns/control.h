#pragma once
// Between the keeper and the worker: messages over a seqpacket pair, from the keeper only. The worker sends nothing: it
// reads hostile bytes, and the keeper has privileges.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::net::dns {

enum class ControlType : uint32_t {
  kListenNamespace = 1,  ///< two descriptors (UDP, TCP listening); who asks there is `workload`
  kListenGateway,        ///< two descriptors; who asks there is known by its address on `network`; text: the address
  kClose,                ///< of `listener`
  kRecord,               ///< text of an endpoint's file
  kForget,               ///< an endpoint
  kServers,              ///< text: the host's servers, one a line
  kQuit,                 ///< end; without it the end of the stream means that the keeper was killed: go on serving
};

struct ControlHeader {
  ControlType type = ControlType::kQuit;
  uint32_t listener = 0;
  std::array<char, 132> network{}, workload{};
};

struct ControlMessage {
  ControlHeader header;
  std::string text;
  UniqueFd udp, tcp;
};

ControlHeader control_header(ControlType type, uint32_t listener, std::string_view network, std::string_view workload);
/// kUnavailable when the other side is gone or takes nothing for five seconds (the descriptor's send timeout).
Result<void> send_control(int fd, const ControlHeader& header, std::string_view text, int udp = -1, int tcp = -1);
/// kUnavailable at the end of the stream; kConflict when there is nothing now.
Result<ControlMessage> receive_control(int fd);

}  // namespace hull::net::dns
