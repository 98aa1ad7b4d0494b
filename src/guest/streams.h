#pragma once
// Standard streams between processes and connections (agent.proto, its head). Copies both ways with back-pressure: a
// stream holds at most one buffer, and its source is left unread until the other side has taken it.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/event_loop.h"

namespace hull::guest {

class StreamHub {
 public:
  static constexpr size_t kMaxNameless = 64;   ///< connections that have not said which stream they want
  static constexpr size_t kMaxStreams = 4096;  ///< whose bytes are not at their end

  explicit StreamHub(EventLoop& loop) : loop_(loop) {}
  ~StreamHub();
  StreamHub(const StreamHub&) = delete;
  StreamHub& operator=(const StreamHub&) = delete;

  /// True for 8 to 64 of [0-9a-f].
  static bool valid_token(std::string_view token);
  bool has(std::string_view token) const;

  /// Makes a stream known: `number` 0 writes to `local` what the connection sends, 1 and 2 the other way. `local` is a
  /// pipe's end or the master of a terminal. kExists when the token has that stream; kNoSpace beyond kMaxStreams.
  Result<void> add(const std::string& token, int number, UniqueFd local);
  /// End of file for stream 0 when `bytes` of it have come. Without such a stream nothing happens.
  void close_input_after(std::string_view token, uint64_t bytes);
  /// Forgets the token's streams that no connection has opened.
  void drop_unopened(const std::string& token);
  /// The same for all of the token's streams, also those in the middle of something.
  void drop(const std::string& token);

  /// A new connection, whose first line will name the stream.
  void accept(UniqueFd connection);

 private:
  struct Stream {
    std::string token;
    int number = 0;
    UniqueFd local, connection;
    std::string pending;          // read, not yet written
    size_t written = 0;           // of pending
    uint64_t total = 0;           // bytes that have reached `local` (stream 0)
    uint64_t limit = UINT64_MAX;  // end of file after this many (stream 0)
    bool source_ended = false;
    bool half_closed = false;  // the peer of an output stream sends nothing any more, which is fine
  };
  struct Nameless {
    UniqueFd connection;
    std::string line;
    uint64_t timer = 0;
  };
  using Key = std::pair<std::string, int>;

  void read_name(int fd);
  void close_nameless(int fd);
  void connect(Stream& stream, UniqueFd connection, std::string_view first);
  void move(const Key& key);
  void on_local(const Key& key, uint32_t events);
  void on_connection(const Key& key, uint32_t events);
  /// False: the stream is at its end.
  bool pump(Stream& stream);
  bool flush(Stream& stream);
  ssize_t take(Stream& stream);
  void set_interest(Stream& stream);
  void end(const Key& key);

  EventLoop& loop_;
  std::map<Key, std::unique_ptr<Stream>> streams_;
  std::map<int, Nameless> nameless_;
  std::array<char, 64 << 10> buffer_{};
};

}  // namespace hull::guest
