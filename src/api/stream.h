#pragma once
// The bytes of one connection, in clear or through TLS, without waiting and with waiting.

#include <openssl/types.h>

#include <cstddef>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::api {

/// What one attempt to move bytes did.
struct Moved {
  enum class State { kDone, kEnd, kAgain };
  State state = State::kAgain;
  size_t count = 0;  // kDone: at least 1
};

/// Owns a connected socket, which it makes non-blocking. Not for several threads, but for gone().
class Stream {
 public:
  explicit Stream(UniqueFd socket);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// The server's side of a handshake; the peer's certificate is checked by the context. Returns when it is done, the
  /// peer is refused, or `timeout_ms` have passed.
  Result<void> start_tls(SSL_CTX* context, int timeout_ms);
  /// The session, when there is one.
  SSL* tls() const { return ssl_; }
  int fd() const { return socket_.get(); }

  /// One attempt. kAgain: wait for events() on fd() first.
  Result<Moved> read_some(char* data, size_t size);
  Result<Moved> write_some(std::string_view data);
  /// poll(2) events that reading (writing) waits for; TLS may need the other direction.
  short read_events() const { return read_events_; }
  short write_events() const { return write_events_; }
  /// Bytes or the end are here although the socket has none (TLS has decrypted more than was asked for).
  bool buffered() const;

  /// Waits for bytes: their number, 0 at the end. kTimeout after `timeout_ms` (-1: never).
  Result<size_t> read(char* data, size_t size, int timeout_ms);
  /// All of them. kTimeout when the peer takes nothing for `timeout_ms` (-1: never).
  Result<void> write(std::string_view data, int timeout_ms);
  /// Nothing more will be written; the peer sees the end and can go on sending.
  void shutdown_write();
  /// True when the peer has closed or reset the connection (nothing is read).
  bool gone() const;

 private:
  Result<Moved> outcome(int result, bool reading, std::string_view what);
  UniqueFd socket_;
  SSL* ssl_ = nullptr;
  short read_events_, write_events_;
};

}  // namespace hull::api
