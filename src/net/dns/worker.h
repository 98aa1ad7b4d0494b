#pragma once
// The half of hull-dns that reads what containers and servers send: without privileges, without files, with the
// descriptors that the keeper gives it. Answers only to endpoints of its networks, so it can't amplify anything.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "net/dns/control.h"
#include "net/dns/forwarder.h"
#include "net/dns/loop.h"
#include "net/dns/names_table.h"

namespace hull::net::dns {

struct WorkerLimits {
  double queries_per_second = 2000, burst = 4000;  ///< of one workload; what is more is dropped
  size_t pending_per_workload = 128;               ///< questions of one workload that wait for servers
  size_t connections = 256, connections_per_workload = 16;
  int64_t idle_connection_ms = 10'000;
  Forwarder::Limits forwarder;
};

class Worker {
 public:
  Worker(Loop loop, UniqueFd control, const WorkerLimits& limits);
  ~Worker();
  /// Until the keeper says so, or it is gone and no endpoint is left.
  Result<void> run();

 private:
  struct Listener {
    uint32_t id = 0;
    bool gateway = false;
    std::string network, workload;  // the one or the other
    UniqueFd udp, tcp;
  };
  struct Peer {
    sockaddr_storage address{};
    socklen_t size = sizeof(sockaddr_storage);
  };
  struct Connection {
    uint64_t id = 0;
    std::string workload;
    UniqueFd socket;
    Message in, out;
    size_t answers_due = 0;
    bool ended = false;  // the client sends no more
    Loop::TimerId timer = 0;
  };
  struct Client {
    double tokens = 0;
    int64_t filled_ms = 0;
    size_t pending = 0, connections = 0;
  };
  using Reply = std::function<void(Message)>;

  void on_control();
  void take(ControlMessage message);
  void listen(ControlMessage message, bool gateway);
  void close_listener(uint32_t id);

  void on_udp(uint32_t id);
  void on_accept(uint32_t id);
  void on_connection(uint64_t id, uint32_t events);
  bool read_connection(Connection& connection);
  void write_connection(Connection& connection);
  void close_connection(uint64_t id);

  /// Whose view a sender has; nothing when it is no endpoint of ours.
  std::optional<std::string> workload_of(const Listener& listener, const Peer& peer) const;
  Client& client(const std::string& workload);
  bool within_rate(const std::string& workload);
  void handle(Bytes message, const std::string& workload, bool tcp, const Reply& reply);
  std::optional<Message> answer_locally(const Query& query, const std::string& workload, size_t limit);
  void forward(const Query& query, const std::string& workload, size_t limit, const Reply& reply);
  std::vector<ServerAddress> servers_for(const NamesTable::Forwarding& forwarding) const;

  Loop loop_;
  UniqueFd control_;
  WorkerLimits limits_;
  Forwarder forwarder_;
  NamesTable names_;
  std::map<uint32_t, std::unique_ptr<Listener>> listeners_;
  std::map<uint32_t, std::string> own_addresses_;  // of gateways: never asked as servers
  std::vector<ServerAddress> host_servers_;
  std::map<std::string, Client> clients_;
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;
  uint64_t last_connection_ = 0;
};

}  // namespace hull::net::dns
