#pragma once
// Standard streams between descriptors of the host and the guest's connections, for the supervisor and for exec.

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/agent_client.h"
#include "vm/poll_set.h"

namespace hull::vm {

/// One direction: what `from` gives reaches `to`, through a buffer of bounded size.
class Pump {
 public:
  Pump() = default;
  /// Neither descriptor is owned or made non-blocking; `to_socket` says that `to` is a connection to the guest.
  Pump(int from, int to, bool to_socket);

  bool done() const { return done_; }
  bool pending() const { return !done_ && begin_ < end_; }
  std::chrono::steady_clock::time_point last_moved() const { return last_moved_; }
  void collect(PollSet& set);
  /// Nothing will be read or written any more.
  void close() { done_ = true; }

 private:
  static constexpr size_t kCapacity = 65536;
  void on_readable(short revents);
  void on_writable(short revents);
  void flush();
  ssize_t put(const char* data, size_t size);

  int from_ = -1, to_ = -1;
  bool to_socket_ = false;
  UniqueFd own_to_;  // another description of `to` that may be non-blocking
  bool may_block_ = false;
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0, end_ = 0;
  bool ended_ = false;  // `from` gives nothing more
  bool done_ = true;
  std::chrono::steady_clock::time_point last_moved_{};
};

/// The streams of one process in the guest.
class Relay {
 public:
  struct Ends {
    int in = -1, out = -1, err = -1;  ///< of the host; -1: the process has /dev/null
    bool terminal = false;            ///< in and out are the slave of a pseudo-terminal in raw mode
  };

  Relay() = default;
  Relay(Relay&&) = default;
  Relay& operator=(Relay&&) = default;

  /// What the guest is told.
  static guest::proto::Streams describe(const Ends& ends, const std::string& token);
  /// Opens the connections; the process exists in the guest, or its creation was asked for.
  static Result<Relay> open(const std::string& vsock, const std::string& token, const Ends& ends,
                            guest::Deadline deadline);

  void collect(PollSet& set);
  /// All output was written out (or nobody takes it any more).
  bool output_done() const { return out_.done() && err_.done(); }
  /// After the process has ended: waits until its output is done. A writer that it left behind may keep a stream open:
  /// after `idle` without a byte nothing more is expected. A reader that takes nothing is waited for `blocked` long.
  void drain(std::chrono::milliseconds idle, std::chrono::milliseconds blocked);

 private:
  UniqueFd in_socket_, out_socket_, err_socket_;
  Pump in_, out_, err_;
  bool in_closed_ = false;
};

}  // namespace hull::vm
