#include "net/dns/forwarder.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/units.h"

namespace hull::net::dns {
namespace {

constexpr size_t kMostAttempts = 6, kRounds = 2;
constexpr int64_t kBadServerMs = 30'000;
constexpr size_t kMostBadServers = 256;

uint16_t random_id() {
  uint16_t id = 0;
  // Blocks only before the pool is there, at the beginning of a boot.
  while (::getrandom(&id, sizeof id, 0) != sizeof id) {
  }
  return id;
}

QuestionKey key_of(const Query& query, const std::vector<ServerAddress>& servers) {
  QuestionKey key = query.name;
  const std::array<uint16_t, 3> rest{
      query.type, query.klass, static_cast<uint16_t>((query.dnssec_ok ? 1 : 0) + (query.checking_disabled ? 2 : 0))};
  key.append(reinterpret_cast<const char*>(rest.data()), sizeof rest);
  for (const ServerAddress& server : servers) key += server.text + ' ';
  return key;
}

}  // namespace

std::optional<ServerAddress> server_address(std::string_view text, uint16_t port) {
  ServerAddress out;
  out.text = text;
  const size_t percent = text.find('%');
  auto address = IpAddress::parse(text.substr(0, percent));
  if (!address.ok() || address->is_unspecified() || address->is_multicast()) return std::nullopt;
  if (address->is_v4()) {
    if (percent != std::string_view::npos) return std::nullopt;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, address->data(), 4);
    std::memcpy(&out.storage, &v4, sizeof v4);
    out.size = sizeof v4;
    return out;
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  std::memcpy(&v6.sin6_addr, address->data(), 16);
  if (percent != std::string_view::npos) {
    auto index = parse_int(text.substr(percent + 1), 1, INT32_MAX);
    if (!index.ok()) return std::nullopt;
    v6.sin6_scope_id = static_cast<uint32_t>(*index);
  }
  std::memcpy(&out.storage, &v6, sizeof v6);
  out.size = sizeof v6;
  return out;
}

Forwarder::~Forwarder() {
  for (auto& [key, ask] : asks_) close_socket(*ask);
}

// Those that failed lately come last; else the order of resolv.conf stays.
void Forwarder::order_servers(std::vector<ServerAddress>& servers) const {
  const int64_t now = now_ms();
  std::stable_partition(servers.begin(), servers.end(), [&](const ServerAddress& server) {
    const auto it = bad_until_ms_.find(server.text);
    return it == bad_until_ms_.end() || it->second <= now;
  });
}

void Forwarder::ask(const Query& query, const std::vector<ServerAddress>& servers, Done done) {
  const QuestionKey key = key_of(query, servers);
  if (const auto hit = cache_.get(key, now_ms())) return done(hit->answer, hit->age_seconds);
  if (const auto it = asks_.find(key); it != asks_.end()) {
    if (it->second->waiters.size() >= limits_.waiters) return done(nullptr, 0);
    it->second->waiters.push_back(std::move(done));
    return;
  }
  if (asks_.size() >= limits_.asks || servers.empty()) return done(nullptr, 0);
  auto ask = std::make_shared<Ask>();
  ask->key = key;
  ask->name = query.name;
  ask->type = query.type;
  ask->klass = query.klass;
  ask->dnssec_ok = query.dnssec_ok;
  ask->checking_disabled = query.checking_disabled;
  ask->servers = servers;
  order_servers(ask->servers);
  ask->waiters.push_back(std::move(done));
  asks_.emplace(key, ask);
  start(ask, false);
}

void Forwarder::close_socket(Ask& ask) {
  if (ask.socket) loop_.forget(ask.socket.get());
  ask.socket.reset();
  loop_.cancel(ask.timer);
  ask.timer = 0;
}

bool Forwarder::open_socket(const AskPtr& ask, const ServerAddress& server) {
  const int kind = (ask->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
  ask->socket.reset(::socket(server.storage.ss_family, kind, 0));
  if (!ask->socket) return false;
  const int connected = ::connect(ask->socket.get(), reinterpret_cast<const sockaddr*>(&server.storage), server.size);
  if (connected != 0 && !(ask->tcp && errno == EINPROGRESS)) return false;
  const uint32_t events = ask->tcp ? EPOLLIN | EPOLLOUT : EPOLLIN;
  const auto watched = loop_.watch(ask->socket.get(), events,
                                   [this, ask](uint32_t what) { ask->tcp ? on_tcp(ask, what) : on_udp(ask); });
  return watched.ok();
}

void Forwarder::start(const AskPtr& ask, bool tcp) {
  close_socket(*ask);
  ask->tcp = tcp;
  ask->id = random_id();
  ask->in.clear();
  ask->out.clear();
  ask->sent = 0;
  const ServerAddress& server = ask->servers[ask->attempt % ask->servers.size()];
  // By a timer, not at once: a server that refuses would make this recursive.
  const int64_t wait = tcp ? limits_.tcp_timeout_ms : limits_.udp_timeout_ms;
  const auto later = [this, ask](int64_t delay_ms) {
    loop_.cancel(ask->timer);
    ask->timer = loop_.after(delay_ms, [this, ask] { next_server(ask); });
  };
  later(wait);
  if (!open_socket(ask, server)) return later(0);
  const Message message =
      make_query(ask->id, ask->name, ask->type, ask->klass, ask->dnssec_ok, ask->checking_disabled, ask->edns);
  if (tcp) {
    ask->out = {static_cast<uint8_t>(message.size() >> 8), static_cast<uint8_t>(message.size())};
    ask->out.insert(ask->out.end(), message.begin(), message.end());
  } else if (::send(ask->socket.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0) {
    later(0);
  }
}

void Forwarder::next_server(const AskPtr& ask) {
  if (!asks_.contains(ask->key)) return;
  if (bad_until_ms_.size() >= kMostBadServers) bad_until_ms_.clear();
  bad_until_ms_[ask->servers[ask->attempt % ask->servers.size()].text] = now_ms() + kBadServerMs;
  ++ask->attempt;
  ask->edns = true;
  if (ask->attempt >= std::min(kMostAttempts, kRounds * ask->servers.size())) return finish(ask, nullptr);
  start(ask, false);
}

void Forwarder::on_udp(const AskPtr& ask) {
  std::array<uint8_t, 4096> buffer;
  while (ask->socket && !ask->tcp) {
    const ssize_t got = ::recv(ask->socket.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) next_server(ask);  // nobody listens there
      return;
    }
    take(ask, Bytes(buffer.data(), static_cast<size_t>(got)));
  }
}

void Forwarder::on_tcp(const AskPtr& ask, uint32_t events) {
  if ((events & EPOLLOUT) != 0 && ask->sent < ask->out.size()) {
    const ssize_t sent =
        ::send(ask->socket.get(), ask->out.data() + ask->sent, ask->out.size() - ask->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return next_server(ask);
    if (sent > 0) ask->sent += static_cast<size_t>(sent);
    if (ask->sent == ask->out.size()) loop_.change(ask->socket.get(), EPOLLIN);
  }
  if ((events & ~uint32_t{EPOLLOUT}) != 0 && !read_tcp(ask)) next_server(ask);
}

// False when the connection is of no more use.
bool Forwarder::read_tcp(const AskPtr& ask) {
  Message& in = ask->in;
  const size_t wanted = in.size() < 2 ? 2 : 2 + (size_t{in[0]} << 8 | in[1]);
  std::array<uint8_t, 16384> buffer;
  const ssize_t got = ::recv(ask->socket.get(), buffer.data(), std::min(buffer.size(), wanted - in.size()), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  in.insert(in.end(), buffer.begin(), buffer.begin() + got);
  if (in.size() < 2 || in.size() < 2 + (size_t{in[0]} << 8 | in[1])) return true;
  const Message whole(in.begin() + 2, in.end());
  in.clear();
  take(ask, whole);
  return true;
}

void Forwarder::take(const AskPtr& ask, Bytes message) {
  auto answer = parse_answer(message);
  if (!answer || answer->id != ask->id || answer->type != ask->type || answer->klass != ask->klass ||
      answer->name != ask->name) {
    // Over UDP it may be a forgery, and the true one may still come. Some servers answer EDNS0 with a bare header.
    const bool refusal = ask->edns && message.size() == kHeaderSize && message[0] == ask->id >> 8 &&
                         message[1] == (ask->id & 0xff) && (message[2] & 0x80) != 0;
    if (refusal) {
      ask->edns = false;
      start(ask, ask->tcp);
    } else if (ask->tcp) {
      next_server(ask);
    }
    return;
  }
  if (answer->truncated) return ask->tcp ? next_server(ask) : start(ask, true);
  const auto rcode = answer->rcode;
  if (ask->edns && (rcode == static_cast<unsigned>(Rcode::kFormErr) || rcode == static_cast<unsigned>(Rcode::kNotImp) ||
                    rcode > 15)) {
    ask->edns = false;
    return start(ask, ask->tcp);
  }
  const bool last = ask->attempt + 1 >= std::min(kMostAttempts, kRounds * ask->servers.size());
  const bool useless = rcode != 0 && rcode != static_cast<unsigned>(Rcode::kNxDomain);
  if (useless && !last) return next_server(ask);
  if (rcode > 15) return finish(ask, nullptr);
  auto whole = std::make_shared<CachedAnswer>();
  whole->message.assign(message.begin(), message.end());
  whole->answer = std::move(*answer);
  cache_.put(ask->key, whole, now_ms());
  if (!useless) bad_until_ms_.erase(ask->servers[ask->attempt % ask->servers.size()].text);
  finish(ask, whole);
}

void Forwarder::finish(const AskPtr& ask, const std::shared_ptr<const CachedAnswer>& answer) {
  close_socket(*ask);
  asks_.erase(ask->key);
  const std::vector<Done> waiters = std::move(ask->waiters);
  for (const Done& done : waiters) done(answer, 0);
}

}  // namespace hull::net::dns
