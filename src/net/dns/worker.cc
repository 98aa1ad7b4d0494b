#include "net/dns/worker.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace hull::net::dns {
namespace {

constexpr int kMostAtOnce = 32;                 // datagrams of one socket before the others have their turn
constexpr size_t kLongestClientMessage = 4096;  // a query is some hundred bytes
constexpr size_t kMostAnswersDue = 32;          // of one connection
constexpr size_t kMostUnsent = 256 << 10;       // the same
constexpr size_t kMostClients = 4096;

std::optional<IpAddress> address_of(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &storage, sizeof v4);
    return IpAddress::from_bytes(Family::kV4, reinterpret_cast<const uint8_t*>(&v4.sin_addr));
  }
  if (storage.ss_family != AF_INET6) return std::nullopt;
  sockaddr_in6 v6;
  std::memcpy(&v6, &storage, sizeof v6);
  return IpAddress::from_bytes(Family::kV6, reinterpret_cast<const uint8_t*>(&v6.sin6_addr));
}

// Round robin without memory: each answer has an order of its own.
void shuffle(std::vector<IpAddress>& addresses) {
  if (addresses.size() < 2) return;
  uint32_t seed = 0;
  if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) return;
  for (size_t i = addresses.size() - 1; i > 0; --i) {
    seed = seed * 1664525u + 1013904223u;
    std::swap(addresses[i], addresses[(seed >> 16) % (i + 1)]);
  }
}

bool is_transfer(uint16_t type) { return type >= kTypeIxfr && type <= kTypeMaila; }

bool is_localhost(std::string_view name) {
  constexpr std::string_view kLocalhost("\11localhost\0", 11);
  return name == kLocalhost || (name.ends_with(kLocalhost) && name_to_text(name).value_or("").ends_with(".localhost"));
}

}  // namespace

Worker::Worker(Loop loop, UniqueFd control, const WorkerLimits& limits)
    : loop_(std::move(loop)), control_(std::move(control)), limits_(limits), forwarder_(loop_, limits.forwarder) {}

Worker::~Worker() = default;

Result<void> Worker::run() {
  TRY(loop_.watch(control_.get(), EPOLLIN, [this](uint32_t) { on_control(); }));
  return loop_.run();
}

// ---- from the keeper

void Worker::on_control() {
  while (true) {
    auto message = receive_control(control_.get());
    if (message.ok()) {
      take(std::move(*message));
      continue;
    }
    if (message.error().kind() == ErrorKind::kConflict) return;
    // The keeper was killed: what is served stays served until the next one replaces us.
    loop_.forget(control_.get());
    if (listeners_.empty()) loop_.stop();
    return;
  }
}

void Worker::take(ControlMessage message) {
  const ControlHeader& header = message.header;
  switch (header.type) {
    case ControlType::kListenNamespace:
    case ControlType::kListenGateway:
      return listen(std::move(message), header.type == ControlType::kListenGateway);
    case ControlType::kClose:
      return close_listener(header.listener);
    case ControlType::kRecord: {
      auto record = parse_name_record(header.network.data(), header.workload.data(), message.text);
      if (record.ok()) names_.put(std::move(*record));
      return;
    }
    case ControlType::kForget:
      names_.remove(header.network.data(), header.workload.data());
      return;
    case ControlType::kServers: {
      host_servers_.clear();
      std::string_view rest = message.text;
      while (!rest.empty()) {
        const size_t newline = rest.find('\n');
        if (auto server = server_address(rest.substr(0, newline))) host_servers_.push_back(std::move(*server));
        rest = newline == std::string_view::npos ? std::string_view() : rest.substr(newline + 1);
      }
      return forwarder_.forget_answers();
    }
    case ControlType::kQuit:
      return loop_.stop();
  }
}

void Worker::listen(ControlMessage message, bool gateway) {
  if (!message.udp || !message.tcp) return;
  auto listener = std::make_unique<Listener>();
  const uint32_t id = message.header.listener;
  listener->id = id;
  listener->gateway = gateway;
  listener->network = message.header.network.data();
  listener->workload = message.header.workload.data();
  listener->udp = std::move(message.udp);
  listener->tcp = std::move(message.tcp);
  close_listener(id);
  const auto udp = loop_.watch(listener->udp.get(), EPOLLIN, [this, id](uint32_t) { on_udp(id); });
  const auto tcp = loop_.watch(listener->tcp.get(), EPOLLIN, [this, id](uint32_t) { on_accept(id); });
  if (gateway) own_addresses_[id] = message.text;
  listeners_[id] = std::move(listener);
  if (!udp.ok() || !tcp.ok()) close_listener(id);
}

void Worker::close_listener(uint32_t id) {
  const auto it = listeners_.find(id);
  if (it == listeners_.end()) return;
  loop_.forget(it->second->udp.get());
  loop_.forget(it->second->tcp.get());
  if (!it->second->gateway) {
    std::vector<uint64_t> gone;
    for (const auto& [key, connection] : connections_) {
      if (connection->workload == it->second->workload) gone.push_back(key);
    }
    for (const uint64_t key : gone) close_connection(key);
    clients_.erase(it->second->workload);
  }
  own_addresses_.erase(id);
  listeners_.erase(it);
}

// ---- from clients

std::optional<std::string> Worker::workload_of(const Listener& listener, const Peer& peer) const {
  if (!listener.gateway) return listener.workload;
  const auto address = address_of(peer.address);
  return address ? names_.workload_at(listener.network, *address) : std::nullopt;
}

Worker::Client& Worker::client(const std::string& workload) {
  if (clients_.size() >= kMostClients && !clients_.contains(workload)) {
    std::erase_if(clients_,
                  [](const auto& entry) { return entry.second.pending == 0 && entry.second.connections == 0; });
  }
  const auto [it, made] = clients_.try_emplace(workload);
  if (made) it->second = {limits_.burst, now_ms(), 0, 0};
  return it->second;
}

bool Worker::within_rate(const std::string& workload) {
  Client& who = client(workload);
  const int64_t now = now_ms();
  who.tokens = std::min(limits_.burst,
                        who.tokens + static_cast<double>(now - who.filled_ms) * limits_.queries_per_second / 1000);
  who.filled_ms = now;
  if (who.tokens < 1) return false;
  who.tokens -= 1;
  return true;
}

void Worker::on_udp(uint32_t id) {
  std::array<uint8_t, kLongestClientMessage> buffer;
  for (int i = 0; i < kMostAtOnce; ++i) {
    const auto it = listeners_.find(id);
    if (it == listeners_.end()) return;
    const Listener& listener = *it->second;
    Peer peer;
    const ssize_t got = ::recvfrom(listener.udp.get(), buffer.data(), buffer.size(), 0,
                                   reinterpret_cast<sockaddr*>(&peer.address), &peer.size);
    if (got < 0) {
      if (errno == EINTR || errno == ECONNREFUSED) continue;
      return;
    }
    const auto workload = workload_of(listener, peer);
    if (!workload || !within_rate(*workload)) continue;
    handle(Bytes(buffer.data(), static_cast<size_t>(got)), *workload, false, [this, id, peer](const Message& message) {
      const auto still = listeners_.find(id);
      if (still == listeners_.end()) return;
      ::sendto(still->second->udp.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&peer.address), peer.size);
    });
  }
}

void Worker::on_accept(uint32_t id) {
  const auto it = listeners_.find(id);
  if (it == listeners_.end()) return;
  Peer peer;
  UniqueFd socket(::accept4(it->second->tcp.get(), reinterpret_cast<sockaddr*>(&peer.address), &peer.size,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket) return;
  const auto workload = workload_of(*it->second, peer);
  if (!workload || connections_.size() >= limits_.connections) return;
  Client& who = client(*workload);
  if (who.connections >= limits_.connections_per_workload) return;
  auto connection = std::make_unique<Connection>();
  const uint64_t key = ++last_connection_;
  connection->id = key;
  connection->workload = *workload;
  connection->socket = std::move(socket);
  connection->timer = loop_.after(limits_.idle_connection_ms, [this, key] { close_connection(key); });
  if (!loop_.watch(connection->socket.get(), EPOLLIN, [this, key](uint32_t what) { on_connection(key, what); }).ok()) {
    loop_.cancel(connection->timer);
    return;
  }
  ++who.connections;
  connections_.emplace(key, std::move(connection));
}

void Worker::close_connection(uint64_t id) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  loop_.forget(it->second->socket.get());
  loop_.cancel(it->second->timer);
  Client& who = client(it->second->workload);
  if (who.connections > 0) --who.connections;
  connections_.erase(it);
}

void Worker::on_connection(uint64_t id, uint32_t events) {
  const auto find = [&]() -> Connection* {
    const auto it = connections_.find(id);
    return it == connections_.end() ? nullptr : it->second.get();
  };
  Connection* connection = find();
  if (connection == nullptr) return;
  if ((events & EPOLLOUT) != 0) write_connection(*connection);
  connection = find();
  if (connection == nullptr) return;
  if ((events & ~uint32_t{EPOLLOUT}) != 0 && !read_connection(*connection)) return close_connection(id);
}

// False when it is over.
bool Worker::read_connection(Connection& connection) {
  std::array<uint8_t, kLongestClientMessage> buffer;
  const ssize_t got = ::recv(connection.socket.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) {
    // Half closed: it may still wait for its answers.
    connection.ended = true;
    loop_.change(connection.socket.get(), connection.out.empty() ? 0u : uint32_t{EPOLLOUT});
    return connection.answers_due != 0 || !connection.out.empty();
  }
  const uint64_t id = connection.id;
  loop_.cancel(connection.timer);
  connection.timer = loop_.after(limits_.idle_connection_ms, [this, id] { close_connection(id); });
  connection.in.insert(connection.in.end(), buffer.begin(), buffer.begin() + got);
  while (connection.in.size() >= 2) {
    const size_t size = size_t{connection.in[0]} << 8 | connection.in[1];
    if (size > kLongestClientMessage) return false;
    if (connection.in.size() < 2 + size) break;
    const Message message(connection.in.begin() + 2, connection.in.begin() + static_cast<ptrdiff_t>(2 + size));
    connection.in.erase(connection.in.begin(), connection.in.begin() + static_cast<ptrdiff_t>(2 + size));
    if (connection.answers_due >= kMostAnswersDue || connection.out.size() > kMostUnsent) return false;
    if (!within_rate(connection.workload)) return false;
    ++connection.answers_due;
    handle(message, connection.workload, true, [this, id](const Message& answer) {
      const auto it = connections_.find(id);
      if (it == connections_.end()) return;
      Connection& target = *it->second;
      if (target.answers_due > 0) --target.answers_due;
      target.out.push_back(static_cast<uint8_t>(answer.size() >> 8));
      target.out.push_back(static_cast<uint8_t>(answer.size()));
      target.out.insert(target.out.end(), answer.begin(), answer.end());
      // From the loop, not from here: whoever is reading this connection holds it.
      loop_.change(target.socket.get(), EPOLLOUT | (target.ended ? 0u : uint32_t{EPOLLIN}));
    });
  }
  return true;
}

void Worker::write_connection(Connection& connection) {
  while (!connection.out.empty()) {
    const ssize_t sent =
        ::send(connection.socket.get(), connection.out.data(), connection.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return close_connection(connection.id);
    connection.out.erase(connection.out.begin(), connection.out.begin() + sent);
  }
  if (connection.ended && connection.answers_due == 0) return close_connection(connection.id);
  loop_.change(connection.socket.get(), connection.ended ? 0u : uint32_t{EPOLLIN});
}

// ---- answering

void Worker::handle(Bytes message, const std::string& workload, bool tcp, const Reply& reply) {
  const ParsedQuery parsed = parse_query(message);
  const Query& query = parsed.query;
  const size_t limit = limit_of(query, tcp);
  if (parsed.what == ParsedQuery::What::kDrop) return;
  if (parsed.what == ParsedQuery::What::kRefuse) return reply(AnswerWriter(query, parsed.rcode, false).finish(limit));
  if (query.klass != kClassIn || is_transfer(query.type) || query.type == kTypeOpt) {
    return reply(AnswerWriter(query, Rcode::kRefused, false).finish(limit));
  }
  if (auto local = answer_locally(query, workload, limit)) return reply(std::move(*local));
  forward(query, workload, limit, reply);
}

std::optional<Message> Worker::answer_locally(const Query& query, const std::string& workload, size_t limit) {
  if (query.type == kTypePtr) {
    const auto address = address_of_pointer(query.name);
    const auto target = address ? names_.pointer(workload, *address) : std::nullopt;
    const auto name = target ? name_from_text(*target) : std::nullopt;
    if (!name) return std::nullopt;
    AnswerWriter writer(query, Rcode::kOk, true);
    writer.add_pointer(*name, kNameTtlSeconds);
    return writer.finish(limit);
  }
  auto addresses = names_.addresses(workload, query.name, query.type);
  if (!addresses && is_localhost(query.name)) {  // RFC 6761, 6.3
    addresses.emplace();
    if (query.type == kTypeA) addresses->push_back(IpAddress::from_v4(0x7f000001));
    if (query.type == kTypeAaaa) addresses->push_back(IpAddress::parse("::1").value());
  }
  if (!addresses) return std::nullopt;
  shuffle(*addresses);
  AnswerWriter writer(query, Rcode::kOk, true);
  for (const IpAddress& address : *addresses) writer.add_address(address, kNameTtlSeconds);
  return writer.finish(limit);
}

std::vector<ServerAddress> Worker::servers_for(const NamesTable::Forwarding& forwarding) const {
  std::vector<ServerAddress> out;
  if (forwarding.servers.empty()) {
    out = host_servers_;
  } else {
    for (const std::string& text : forwarding.servers) {
      if (auto server = server_address(text)) out.push_back(std::move(*server));
    }
  }
  // A server that is ourselves would ask us in turn.
  std::erase_if(out, [&](const ServerAddress& server) {
    return std::any_of(own_addresses_.begin(), own_addresses_.end(),
                       [&](const auto& own) { return own.second == server.text; });
  });
  return out;
}

void Worker::forward(const Query& query, const std::string& workload, size_t limit, const Reply& reply) {
  const NamesTable::Forwarding forwarding = names_.forwarding(workload);
  const std::vector<ServerAddress> servers =
      forwarding.allowed ? servers_for(forwarding) : std::vector<ServerAddress>();
  if (servers.empty() || client(workload).pending >= limits_.pending_per_workload) {
    return reply(AnswerWriter(query, Rcode::kServFail, false).finish(limit));
  }
  ++client(workload).pending;
  forwarder_.ask(
      query, servers,
      [this, query, workload, limit, reply](const std::shared_ptr<const CachedAnswer>& answer, uint32_t age) {
        Client& who = client(workload);
        if (who.pending > 0) --who.pending;
        if (!answer) return reply(AnswerWriter(query, Rcode::kServFail, false).finish(limit));
        reply(answer_for(query, answer->message, answer->answer, age, limit));
      });
}

}  // namespace hull::net::dns
