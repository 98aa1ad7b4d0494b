#pragma once
// Published ports of an ordinary user: sockets of the host's network on one side, of the network inside on the other.

#include <netinet/in.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "sys/event_loop.h"

namespace hull::rootless {

/// Makes a non-blocking socket in the network inside: AF_*, SOCK_STREAM or SOCK_DGRAM.
using InnerSocket = std::function<Result<UniqueFd>(int family, int type)>;

class PortService {
 public:
  /// `listener` takes requests (protocol.h).
  PortService(sys::Loop& loop, UniqueFd listener, InnerSocket inner);
  ~PortService();
  Result<void> start();

 private:
  struct Address {
    sockaddr_storage storage{};
    socklen_t size = sizeof(sockaddr_storage);
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  };
  /// One direction of a stream.
  struct Half {
    UniqueFd* from = nullptr;
    UniqueFd* to = nullptr;
    std::string waiting;
    bool ended = false, shut = false;
    bool unwatched = false;  ///< `from` is closed in both directions
  };
  struct Stream {
    UniqueFd outer, inner;
    Half in, out;
  };
  /// Datagrams of one client.
  struct Flow {
    Address client;
    UniqueFd inner;
    int64_t last_ms = 0;
  };
  struct Lease {
    UniqueFd connection;  ///< or the process whose port it is
    UniqueFd owner, port;
    bool udp = false;
    Address target;
    std::map<std::string, Flow> flows;  // by the client's address
  };

  void on_request();
  void on_lease(uint64_t id);
  int open_port(uint64_t id, std::string_view text);
  void close_lease(uint64_t id);
  void on_client(uint64_t id);
  void on_stream(uint64_t id, uint32_t events, bool inner);
  bool pass_on(Half& half);
  void close_stream(uint64_t id);
  void update(uint64_t id);
  void on_datagrams(uint64_t id);
  void on_answers(uint64_t id, const std::string& client);
  void drop_old_flows();
  static Result<Address> parse_address(std::string_view text, uint16_t port);

  sys::Loop& loop_;
  UniqueFd listener_;
  InnerSocket inner_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, Lease> leases_;
  std::map<uint64_t, std::unique_ptr<Stream>> streams_;
};

}  // namespace hull::rootless
