#pragma once
// Between a client's connection and a workload's streams, both ways at once.

#include <string>
#include <string_view>

#include "api/stream.h"
#include "api/websocket.h"
#include "base/error.h"
#include "engine/engine.h"

namespace hull::api {

struct PumpRequest {
  bool input = true, output = true, error = true;  // what the client wants to send and see
  /// Frames of a header of 8 bytes (stream, 0, 0, 0, length) before each piece, as Docker's clients take streams apart.
  bool multiplexed = false;
  bool websocket = false;
  std::string detach_sequence;  // bytes of the input that end the pump; "": none
  /// Readable when the process has ended; then what is in the streams is passed on and the pump ends. Without it the
  /// pump ends with the output. -1: none.
  int ended_fd = -1;
};

enum class PumpEnd { kFinished, kDetached, kClientGone };

/// `early` is what the client has sent before the streams were there. Does not return before the output ends, the
/// client goes away or detaches. A client that only closes its sending side closes the workload's input.
PumpEnd pump(Stream& client, engine::Attachment& streams, const PumpRequest& request, std::string early);

/// A piece of output with Docker's header: stream 1 or 2, three zeros, the length.
std::string output_frame(int stream, std::string_view data);

/// Waits until `fd` is readable, keeping what the client sends meanwhile; false when the client goes away.
bool wait_beside(Stream& client, int fd, std::string& early);

}  // namespace hull::api
