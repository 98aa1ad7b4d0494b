#include "rootless/ports.h"

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/units.h"
#include "rootless/protocol.h"
#include "sys/process.h"

namespace hull::rootless {
namespace {

constexpr size_t kMostLeases = 1024, kMostStreams = 4096, kMostFlows = 512;
constexpr size_t kBuffer = 64 << 10;
constexpr int64_t kFlowMs = 60'000, kPauseMs = 100;
constexpr size_t kLongestRequest = 128;
constexpr int kBacklog = 128;

bool is_unspecified(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &storage, sizeof v4);
    return v4.sin_addr.s_addr == INADDR_ANY;
  }
  sockaddr_in6 v6;
  std::memcpy(&v6, &storage, sizeof v6);
  return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
}

enum class Taken : uint8_t { kAll, kFull, kBroken };

/// Reads what is there, up to a buffer's worth that waits.
Taken take(int from, std::string& waiting, bool& ended) {
  std::array<char, kBuffer> buffer;
  while (!ended) {
    if (waiting.size() >= kBuffer) return Taken::kFull;
    const ssize_t got = ::recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN ? Taken::kAll : Taken::kBroken;
    ended = got == 0;
    waiting.append(buffer.data(), static_cast<size_t>(got));
  }
  return Taken::kAll;
}

/// Sends what waits as far as it goes; false when the stream is broken.
bool give(int to, std::string& waiting) {
  size_t done = 0;
  while (done < waiting.size()) {
    const ssize_t sent = ::send(to, waiting.data() + done, waiting.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN && errno != ENOTCONN) return false;
    if (sent < 0) break;
    done += static_cast<size_t>(sent);
  }
  waiting.erase(0, done);
  return true;
}

}  // namespace

PortService::PortService(sys::Loop& loop, UniqueFd listener, InnerSocket inner)
    : loop_(loop), listener_(std::move(listener)), inner_(std::move(inner)) {}
PortService::~PortService() = default;

Result<void> PortService::start() {
  return loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { on_request(); });
}

Result<PortService::Address> PortService::parse_address(std::string_view text, uint16_t port) {
  Address out;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  const std::string copy(text);
  if (::inet_pton(AF_INET, copy.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&out.storage, &v4, out.size = sizeof v4);
    return out;
  }
  if (::inet_pton(AF_INET6, copy.c_str(), &v6.sin6_addr) != 1) return Error(ErrorKind::kInvalid, "not an address");
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  std::memcpy(&out.storage, &v6, out.size = sizeof v6);
  return out;
}

// ---- leases

void PortService::on_request() {
  UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection || leases_.size() >= kMostLeases) return;
  const uint64_t id = ++last_id_;
  const int fd = connection.get();
  leases_[id].connection = std::move(connection);
  if (!loop_.watch(fd, EPOLLIN, [this, id](uint32_t) { on_lease(id); }).ok()) leases_.erase(id);
}

// Its one request, or its end.
void PortService::on_lease(uint64_t id) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  std::array<char, kLongestRequest> buffer;
  const ssize_t got = ::recv(it->second.connection.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0 || it->second.port) return close_lease(id);
  const int error = open_port(id, std::string_view(buffer.data(), static_cast<size_t>(got)));
  const std::string answer = error == 0 ? std::string(kPublished) : std::to_string(error);
  ::send(it->second.connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (error != 0) return close_lease(id);
  if (Lease& lease = leases_[id]; lease.owner) {
    loop_.forget(lease.connection.get());
    lease.connection = std::move(lease.owner);
    if (!loop_.watch(lease.connection.get(), EPOLLIN, [this, id](uint32_t) { close_lease(id); }).ok()) close_lease(id);
  }
}

int PortService::open_port(uint64_t id, std::string_view text) {
  Lease& lease = leases_[id];
  std::array<std::string_view, 5> words;
  for (std::string_view& word : words) {
    word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  const auto port = parse_int(words[1], 1, 65535);
  const auto owner = parse_int(words[3], 0, 1 << 22), owner_start = parse_int(words[4], 0, INT64_MAX);
  if (!port.ok() || !owner.ok() || !owner_start.ok() || (words[0] != "tcp" && words[0] != "udp")) return EINVAL;
  lease.udp = words[0] == "udp";
  const auto at = parse_address(words[2], static_cast<uint16_t>(*port));
  if (!at.ok()) return EINVAL;
  if (*owner != 0) {
    auto process = sys::pidfd_open(static_cast<pid_t>(*owner));
    if (!process.ok() || !sys::is_alive(static_cast<pid_t>(*owner), static_cast<uint64_t>(*owner_start))) return ESRCH;
    lease.owner = std::move(*process);
  }
  const int type = lease.udp ? SOCK_DGRAM : SOCK_STREAM;
  UniqueFd socket(::socket(at->storage.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno;
  const int one = 1;
  if (!lease.udp) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (at->storage.ss_family == AF_INET6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (::bind(socket.get(), at->get(), at->size) != 0) return errno;
  if (!lease.udp && ::listen(socket.get(), kBacklog) != 0) return errno;
  lease.target = *at;
  if (is_unspecified(at->storage)) {
    const auto local =
        parse_address(at->storage.ss_family == AF_INET ? "127.0.0.1" : "::1", static_cast<uint16_t>(*port));
    if (!local.ok()) return EINVAL;
    lease.target = *local;
  }
  lease.port = std::move(socket);
  const bool udp = lease.udp;
  const auto watched =
      loop_.watch(lease.port.get(), EPOLLIN, [this, id, udp](uint32_t) { udp ? on_datagrams(id) : on_client(id); });
  return watched.ok() ? 0 : ENOMEM;
}

void PortService::close_lease(uint64_t id) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  Lease& lease = it->second;
  loop_.forget(lease.connection.get());
  if (lease.port) loop_.forget(lease.port.get());
  for (auto& [name, flow] : lease.flows) loop_.forget(flow.inner.get());
  leases_.erase(it);
}

// ---- TCP

void PortService::on_client(uint64_t id) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  const int port = it->second.port.get();
  UniqueFd outer(::accept4(port, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!outer && (errno == EMFILE || errno == ENFILE)) {
    // The client stays in the queue; asking again at once would only burn the processor.
    loop_.change(port, 0);
    loop_.after(kPauseMs, [this, id] {
      if (const auto lease = leases_.find(id); lease != leases_.end()) loop_.change(lease->second.port.get(), EPOLLIN);
    });
  }
  if (!outer || streams_.size() >= kMostStreams) return;
  auto inner = inner_(it->second.target.storage.ss_family, SOCK_STREAM);
  if (!inner.ok()) return;
  if (::connect(inner->get(), it->second.target.get(), it->second.target.size) != 0 && errno != EINPROGRESS) return;
  auto stream = std::make_unique<Stream>();
  stream->outer = std::move(outer);
  stream->inner = std::move(*inner);
  stream->in.from = stream->out.to = &stream->outer;
  stream->in.to = stream->out.from = &stream->inner;
  const uint64_t key = ++last_id_;
  const auto one =
      loop_.watch(stream->outer.get(), EPOLLIN, [this, key](uint32_t events) { on_stream(key, events, false); });
  const auto other = loop_.watch(stream->inner.get(), EPOLLIN | EPOLLOUT,
                                 [this, key](uint32_t events) { on_stream(key, events, true); });
  streams_.emplace(key, std::move(stream));
  if (!one.ok() || !other.ok()) close_stream(key);
}

void PortService::on_stream(uint64_t id, uint32_t events, bool inner) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  if ((events & EPOLLERR) != 0) return close_stream(id);
  // Closed in both directions: epoll would say so again and again. What it still holds is read as the other side takes
  // it.
  if ((events & EPOLLHUP) != 0) {
    loop_.forget(inner ? it->second->inner.get() : it->second->outer.get());
    (inner ? it->second->out : it->second->in).unwatched = true;
  }
  for (Half* half : {&it->second->in, &it->second->out}) {
    if (!pass_on(*half)) return close_stream(id);
  }
  if (it->second->in.shut && it->second->out.shut) return close_stream(id);
  update(id);
}

// False when the stream is broken. One buffer's worth, so that no stream holds up the others; of a closed side all that
// the other one takes, since nothing wakes us for it again.
bool PortService::pass_on(Half& half) {
  Taken taken = Taken::kAll;
  do {
    taken = take(half.from->get(), half.waiting, half.ended);
    if (taken == Taken::kBroken || !give(half.to->get(), half.waiting)) return false;
  } while (taken == Taken::kFull && half.unwatched && half.waiting.empty());
  if (half.ended && half.waiting.empty() && !half.shut) {
    ::shutdown(half.to->get(), SHUT_WR);
    half.shut = true;
  }
  return true;
}

// Waits for what can go on: reading where there is room, writing where something waits.
void PortService::update(uint64_t id) {
  Stream& stream = *streams_[id];
  const auto events = [](const Half& reading, const Half& writing) {
    return (!reading.ended && reading.waiting.size() < kBuffer ? uint32_t{EPOLLIN} : 0u) |
           (!writing.waiting.empty() ? uint32_t{EPOLLOUT} : 0u);
  };
  loop_.change(stream.outer.get(), events(stream.in, stream.out));
  loop_.change(stream.inner.get(), events(stream.out, stream.in));
}

void PortService::close_stream(uint64_t id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  loop_.forget(it->second->outer.get());
  loop_.forget(it->second->inner.get());
  streams_.erase(it);
}

// ---- UDP

void PortService::on_datagrams(uint64_t id) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  Lease& lease = it->second;
  std::array<char, kBuffer> buffer;
  for (int i = 0; i < 32; ++i) {
    Address client;
    const ssize_t got =
        ::recvfrom(lease.port.get(), buffer.data(), buffer.size(), MSG_DONTWAIT, client.get(), &client.size);
    if (got < 0) break;
    const std::string name(reinterpret_cast<const char*>(&client.storage), client.size);
    auto flow = lease.flows.find(name);
    if (flow == lease.flows.end()) {
      drop_old_flows();
      if (lease.flows.size() >= kMostFlows) continue;
      auto inner = inner_(lease.target.storage.ss_family, SOCK_DGRAM);
      if (!inner.ok() || ::connect(inner->get(), lease.target.get(), lease.target.size) != 0) continue;
      const int fd = inner->get();
      if (!loop_.watch(fd, EPOLLIN, [this, id, name](uint32_t) { on_answers(id, name); }).ok()) continue;
      flow = lease.flows.emplace(name, Flow{client, std::move(*inner), 0}).first;
    }
    flow->second.last_ms = sys::now_ms();
    ::send(flow->second.inner.get(), buffer.data(), static_cast<size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

void PortService::on_answers(uint64_t id, const std::string& client) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  const auto flow = it->second.flows.find(client);
  if (flow == it->second.flows.end()) return;
  std::array<char, kBuffer> buffer;
  const ssize_t got = ::recv(flow->second.inner.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) return;  // nobody listens inside: as silent as a lost datagram
  flow->second.last_ms = sys::now_ms();
  ::sendto(it->second.port.get(), buffer.data(), static_cast<size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL,
           flow->second.client.get(), flow->second.client.size);
}

// When a client comes, those that were silent for a minute go.
void PortService::drop_old_flows() {
  const int64_t now = sys::now_ms();
  for (auto& [id, lease] : leases_) {
    for (auto flow = lease.flows.begin(); flow != lease.flows.end();) {
      if (now - flow->second.last_ms > kFlowMs) {
        loop_.forget(flow->second.inner.get());
        flow = lease.flows.erase(flow);
      } else {
        ++flow;
      }
    }
  }
}

}  // namespace hull::rootless
