#pragma once
// Asks other servers. Every question has a random id and a socket of its own with a random port, connected to its
// server, so that only that server's answers arrive; what does not match the question to the letter is ignored. Equal
// questions that are under way are asked once, which also keeps a loop of servers from growing.

#include <sys/socket.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "net/dns/cache.h"
#include "net/dns/loop.h"
#include "net/dns/message.h"

namespace hull::net::dns {

/// Port 53 of an address.
struct ServerAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  std::string text;  ///< with %interface where there is one
};
/// "192.0.2.1", "fe80::1%3" (the number of an interface).
std::optional<ServerAddress> server_address(std::string_view text, uint16_t port = 53);

class Forwarder {
 public:
  /// Nothing: no server had an answer.
  using Done = std::function<void(const std::shared_ptr<const CachedAnswer>& answer, uint32_t age_seconds)>;
  struct Limits {
    size_t asks = 256;    ///< questions under way
    size_t waiters = 64;  ///< for one of them
    size_t cache_entries = 4096, cache_bytes = 2 << 20;
    int64_t udp_timeout_ms = 2000, tcp_timeout_ms = 4000;
  };
  Forwarder(Loop& loop, const Limits& limits)
      : loop_(loop), limits_(limits), cache_(limits.cache_entries, limits.cache_bytes) {}
  ~Forwarder();

  /// Calls `done` once, perhaps before it returns. `servers` must not be empty.
  void ask(const Query& query, const std::vector<ServerAddress>& servers, Done done);
  /// When the host's servers changed: what others said does not count any more.
  void forget_answers() { cache_.clear(); }

 private:
  struct Ask {
    QuestionKey key;
    std::string name;
    uint16_t type = 0, klass = 0, id = 0;
    bool dnssec_ok = false, checking_disabled = false, edns = true, tcp = false;
    std::vector<ServerAddress> servers;
    size_t attempt = 0;
    UniqueFd socket;
    Loop::TimerId timer = 0;
    Message out, in;  // of a TCP connection, with the length in front
    size_t sent = 0;
    std::vector<Done> waiters;
  };
  using AskPtr = std::shared_ptr<Ask>;

  void start(const AskPtr& ask, bool tcp);
  bool open_socket(const AskPtr& ask, const ServerAddress& server);
  void close_socket(Ask& ask);
  void next_server(const AskPtr& ask);
  void on_udp(const AskPtr& ask);
  void on_tcp(const AskPtr& ask, uint32_t events);
  bool read_tcp(const AskPtr& ask);
  void take(const AskPtr& ask, Bytes message);
  void finish(const AskPtr& ask, const std::shared_ptr<const CachedAnswer>& answer);
  void order_servers(std::vector<ServerAddress>& servers) const;

  Loop& loop_;
  Limits limits_;
  Cache cache_;
  std::map<QuestionKey, AskPtr> asks_;
  std::map<std::string, int64_t> bad_until_ms_;  // servers that did not answer
};

}  // namespace hull::net::dns
