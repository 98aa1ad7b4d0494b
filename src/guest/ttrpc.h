#pragma once
// ttrpc (containerd/ttrpc, PROTOCOL.md 1.0: unary calls) over any stream socket. A frame is a header of ten bytes
// (length and stream as 32 bits big-endian, type, flags) and at most 4 MiB of data. Both sides are bounded: nothing is
// allocated for bytes that have not come, and a peer that breaks the rules loses its connection.

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::guest::ttrpc {

inline constexpr size_t kHeaderBytes = 10;
inline constexpr size_t kMaxDataBytes = 4 << 20;

enum class FrameType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct Frame {
  uint32_t stream = 0;
  FrameType type = FrameType::kRequest;
  uint8_t flags = 0;
  std::string data;
};

/// The frame's bytes; data longer than kMaxDataBytes is kInvalid.
Result<std::string> encode(const Frame& frame);

/// Takes bytes as they come and gives whole frames.
class FrameReader {
 public:
  void append(std::string_view bytes) { buffer_.append(bytes); }
  /// The next whole frame, nothing when more bytes are needed. kCorrupt: a length beyond the limit or an unknown type;
  /// what follows means nothing any more.
  Result<std::optional<Frame>> next();
  /// Bytes that wait for the rest of their frame.
  size_t pending() const { return buffer_.size() - used_; }

 private:
  std::string buffer_;
  size_t used_ = 0;
};

/// One call as a server gets it.
struct Call {
  std::string service;
  std::string method;
  std::string payload;
  std::chrono::nanoseconds timeout{0};  ///< 0: the caller named none
};
/// The answer to a call: the response message's bytes, or why there is none. To be called once, at once or later.
using Reply = std::function<void(Result<std::string>)>;

/// What a Response says about an error, and back. Kind and text survive the way; the errno does where the text ends
/// with its reason, as that of a failed system call does.
std::string encode_response(const Result<std::string>& outcome);
/// A response's payload, or the error that the peer tells; kCorrupt when the bytes are no response.
Result<std::string> decode_response(std::string_view data);
std::string encode_request(const Call& call);
Result<Call> decode_request(std::string_view data);

/// One connection of a server, for an event loop. Does no waiting: the socket is non-blocking.
class ServerConnection {
 public:
  using Handler = std::function<void(Call call, Reply reply)>;
  /// Answers that are not yet taken by the peer may hold this much; then requests are left unread.
  static constexpr size_t kMaxQueuedBytes = 2 * (kMaxDataBytes + kHeaderBytes);
  static constexpr size_t kMaxCalls = 64;  ///< that wait for their reply at the same time

  ServerConnection(UniqueFd socket, Handler handler);
  ~ServerConnection();
  ServerConnection(const ServerConnection&) = delete;
  ServerConnection& operator=(const ServerConnection&) = delete;

  int fd() const;
  bool wants_read() const;
  bool wants_write() const;
  /// The socket can be read or written. False: the connection has ended (also when the peer broke the rules); replies
  /// that come later go nowhere.
  bool on_ready(bool readable, bool writable);
  /// Called after a reply has been queued outside of on_ready, so that the owner looks at wants_write again.
  void on_queued(std::function<void()> notify);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

using Deadline = std::chrono::steady_clock::time_point;
inline Deadline after(std::chrono::milliseconds limit) { return std::chrono::steady_clock::now() + limit; }

/// The client's side, one call at a time. A connection whose call timed out may be used again: the late answer is
/// dropped.
class Client {
 public:
  explicit Client(UniqueFd socket) : socket_(std::move(socket)) {}

  /// kTimeout when the deadline passes; kUnavailable when the peer is gone; kCorrupt when it breaks the rules;
  /// otherwise the peer's own error.
  Result<std::string> call(std::string_view service, std::string_view method, std::string_view payload,
                           Deadline deadline);
  /// The two halves of a call, for a caller that waits on fd() among others.
  Result<uint32_t> send(std::string_view service, std::string_view method, std::string_view payload, Deadline deadline);
  /// Reads what has come without waiting. Nothing yet: no value. Answers to earlier calls are dropped.
  Result<std::optional<std::string>> receive(uint32_t stream);

  int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
  FrameReader reader_;
  uint32_t next_stream_ = 1;
};

}  // namespace hull::guest::ttrpc
