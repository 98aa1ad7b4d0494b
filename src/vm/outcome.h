#pragma once
// How the supervisor tells another process of ours how something ended: one message on a unix socket.

#include <string>

#include "base/error.h"

namespace hull::vm {

/// "ok", or kind, errno and text of the error.
std::string encode_outcome(const Result<void>& outcome);
/// kCorrupt when it is no outcome.
Result<void> decode_outcome(std::string_view text);

/// Sends it on a connected socket; a peer that is gone is nobody's concern.
void send_outcome(int socket, const Result<void>& outcome);
/// Waits for it. kUnavailable when the other end was closed without a word.
Result<void> receive_outcome(int socket);

}  // namespace hull::vm
