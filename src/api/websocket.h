#pragma once
// Websockets (RFC 6455) as far as attaching needs them: the answer to the handshake, frames from a client taken apart,
// frames to it put together. Beast has a whole one, which wants to own the socket; here one poll(2) serves client and
// workload.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace hull::api {

/// The value of Sec-WebSocket-Accept for a client's key; kInvalid when the key is malformed.
Result<std::string> websocket_accept(std::string_view key);

/// Takes frames of a client apart, however they are cut into pieces. Payload is passed on as it comes, so nothing of a
/// peer's choosing is allocated.
class WebsocketReader {
 public:
  /// Appends payload to `data` and what has to be answered (pongs, the echo of a close) to `reply`. False after a close
  /// or a violation of the protocol: the connection is to be ended once the reply is sent.
  bool feed(std::string_view bytes, std::string& data, std::string& reply);

 private:
  bool begin(std::string& reply);
  bool end(std::string& reply);
  bool fail(uint16_t code, std::string& reply);

  enum class State { kHead, kPayload };
  State state_ = State::kHead;
  std::string head_, control_;  // at most 14 and 125 bytes
  unsigned opcode_ = 0;
  bool in_message_ = false, final_ = false;
  uint64_t left_ = 0, position_ = 0;
  unsigned char mask_[4] = {};
};

/// One frame with the payload. opcode: 1 text, 2 binary, 8 close, 10 pong.
std::string websocket_frame(unsigned opcode, std::string_view payload);

}  // namespace hull::api
