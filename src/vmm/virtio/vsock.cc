#include "vmm/virtio/vsock.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "base/log.h"

namespace hull::vmm {

namespace {

constexpr size_t kReceiveQueue = 0, kTransmitQueue = 1;
// Fairness: how much of one thing is done before the others get their turn.
constexpr size_t kChainsAtOnce = 16;
constexpr int kPacketsAtOnce = 64;
constexpr int kServesAtOnce = 32;
// The guest gets no further with requests before it takes answers.
constexpr size_t kMostResets = 256;

uint64_t ports_key(uint32_t host_port, uint32_t guest_port) { return uint64_t{host_port} << 32 | guest_port; }

}  // namespace

struct VsockDevice::Connection {
  enum class State {
    kGreeting,   ///< the host has connected and not said CONNECT yet; no ports
    kRequested,  ///< the guest was asked
    kOpen,
    kClosing,   ///< the host's end is gone; the guest was told, and will reset
    kDraining,  ///< the guest's end is gone; what it said before goes to the host; no ports
  };
  uint64_t id = 0;
  UniqueFd socket;
  State state = State::kGreeting;
  bool named = false;  ///< has ports, so that packets find it
  uint32_t host_port = 0, guest_port = 0;
  std::string greeting;

  // To the guest.
  uint32_t sent = 0, peer_buffer = 0, peer_forwarded = 0;
  bool readable = false;  ///< the socket may have something; edge-triggered
  bool host_ended = false, hung_up = false;
  bool guest_takes_no_more = false;
  bool credit_asked = false;
  bool queued = false;
  bool owes_request = false, owes_response = false, owes_credit = false, owes_credit_request = false;
  uint32_t shutdown_owed = 0, shutdown_told = 0;

  // To the host.
  uint32_t received = 0, forwarded = 0, announced = 0;
  std::vector<std::byte> pending;
  size_t pending_start = 0;
  bool guest_ended = false, write_ended = false;
  bool host_takes_no_more = false;

  size_t pending_bytes() const { return pending.size() - pending_start; }
  uint32_t credit() const {
    const uint32_t in_flight = sent - peer_forwarded;
    return in_flight < peer_buffer ? peer_buffer - in_flight : 0;
  }
};

VsockDevice::VsockDevice(VsockSocket socket, VsockOptions options)
    : socket_(std::move(socket)), options_(std::move(options)) {
  if (!options_.connect) {
    options_.connect = [this](uint32_t port) { return connect_vsock_port(socket_.name, port); };
  }
  chains_.resize(kChainsAtOnce);
}

VsockDevice::~VsockDevice() { deactivate(); }

void VsockDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  copy_config(std::as_bytes(std::span(&options_.cid, 1)), offset, out);
}

Result<void> VsockDevice::on_activate() {
  // Half wired (a front end that enables one queue after the other): nobody is served yet.
  if (!queue(kReceiveQueue).active() || !queue(kTransmitQueue).active() || !socket_.listener) return {};
  return worker(0).watch(socket_.listener.get(), EPOLLIN | EPOLLET, kFirstKey);
}

void VsockDevice::on_deactivate() {
  connections_.clear();
  by_ports_.clear();
  ready_.clear();
  resets_.clear();
  pending_total_ = 0;
  transmit_waiting_ = accept_again_ = false;
}

void VsockDevice::on_thread() {
  // The guest's connections go to names in the socket's folder: this thread alone stands there.
  if (!socket_.folder) return;
  if (::unshare(CLONE_FS) != 0 || ::fchdir(socket_.folder.get()) != 0) {
    log_warning("vsock: can't enter the socket's folder; the guest's connections will be refused");
    options_.connect = [](uint32_t) { return UniqueFd(); };
  }
}

void VsockDevice::on_queue(size_t index) {
  if (index == kTransmitQueue) transmit_waiting_ = true;
}

void VsockDevice::on_event(size_t, uint64_t key, uint32_t events) {
  if (key == kFirstKey) return accept_connections();
  Connection* connection = find(key);
  if (connection == nullptr) return;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) connection->hung_up = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) connection->readable = true;
  if (connection->state == Connection::State::kGreeting) return greet(connection);
  if ((events & EPOLLOUT) != 0 && connection->pending_bytes() > 0) {
    flush(connection);
    settle(connection);
    connection = find(key);
  }
  if (connection != nullptr) ready(connection);
}

bool VsockDevice::after_events(size_t) {
  if (!queue(kReceiveQueue).active() || !queue(kTransmitQueue).active()) return false;
  bool more = receive_packets();
  more = serve_ready() || more;
  if (accept_again_) accept_connections();
  finish(kReceiveQueue);
  finish(kTransmitQueue);
  return more && !broken();
}

// ---- connections

VsockDevice::Connection* VsockDevice::find(uint64_t id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

bool VsockDevice::make_room() {
  if (connections_.size() < kVsockConnections) return true;
  // Those whose host end is gone only wait for the guest to notice.
  for (const auto& [id, connection] : connections_) {
    if (connection->state != Connection::State::kClosing) continue;
    reset(connection.get());
    return true;
  }
  return false;
}

VsockDevice::Connection* VsockDevice::make_connection(UniqueFd socket) {
  auto made = std::make_unique<Connection>();
  made->id = next_id_++;
  made->socket = std::move(socket);
  constexpr uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  if (!worker(0).watch(made->socket.get(), kEvents, made->id).ok()) return nullptr;
  Connection* connection = made.get();
  connections_.emplace(made->id, std::move(made));
  return connection;
}

void VsockDevice::name_ports(Connection* connection, uint32_t host_port, uint32_t guest_port) {
  connection->host_port = host_port;
  connection->guest_port = guest_port;
  connection->named = true;
  by_ports_[ports_key(host_port, guest_port)] = connection->id;
}

void VsockDevice::forget_ports(Connection* connection) {
  if (connection->named) by_ports_.erase(ports_key(connection->host_port, connection->guest_port));
  connection->named = false;
}

void VsockDevice::ready(Connection* connection) {
  if (connection->queued) return;
  connection->queued = true;
  ready_.push_back(connection->id);
}

void VsockDevice::owe_reset(uint64_t host_cid, uint32_t host_port, uint32_t guest_port, uint16_t type) {
  VsockHeader header;
  header.source_cid = host_cid;
  header.destination_cid = options_.cid;
  header.source_port = host_port;
  header.destination_port = guest_port;
  header.type = type;
  header.operation = static_cast<uint16_t>(VsockOperation::kReset);
  resets_.push_back(header);
}

void VsockDevice::reset(Connection* connection) {
  if (connection->named) owe_reset(kVsockHostCid, connection->host_port, connection->guest_port, kVsockStream);
  remove(connection);
}

void VsockDevice::remove(Connection* connection) {
  forget_ports(connection);
  pending_total_ -= connection->pending_bytes();
  connections_.erase(connection->id);  // closes the socket, which leaves epoll by that
}

// ---- from the host

void VsockDevice::accept_connections() {
  accept_again_ = false;
  for (;;) {
    UniqueFd socket(::accept4(socket_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      // Out of descriptors or memory: again when something else has happened.
      if (errno == EINTR || errno == ECONNABORTED) continue;
      accept_again_ = errno != EAGAIN;
      return;
    }
    if (!make_room()) continue;
    if (Connection* connection = make_connection(std::move(socket)); connection != nullptr) greet(connection);
  }
}

void VsockDevice::greet(Connection* connection) {
  const auto complete = read_vsock_greeting(connection->socket.get(), &connection->greeting);
  if (!complete.ok()) return remove(connection);
  if (!*complete) return;
  const auto port = parse_vsock_greeting(connection->greeting);
  if (!port) return remove(connection);
  while (by_ports_.contains(ports_key(next_port_, *port))) next_port_ = (next_port_ + 1) | 1u << 30;
  name_ports(connection, next_port_, *port);
  next_port_ = (next_port_ + 1) | 1u << 30;
  connection->state = Connection::State::kRequested;
  connection->owes_request = true;
  connection->readable = true;
  ready(connection);
}

void VsockDevice::flush(Connection* connection) {
  while (connection->pending_bytes() > 0 && !connection->host_takes_no_more) {
    const ssize_t sent = ::send(connection->socket.get(), connection->pending.data() + connection->pending_start,
                                connection->pending_bytes(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
      connection->host_takes_no_more = true;
      break;
    }
    connection->pending_start += static_cast<size_t>(sent);
    connection->forwarded += static_cast<uint32_t>(sent);
    pending_total_ -= static_cast<size_t>(sent);
  }
  // Everything is out, or nobody wants it. An idle connection holds no buffer.
  connection->forwarded += static_cast<uint32_t>(connection->pending_bytes());
  pending_total_ -= connection->pending_bytes();
  connection->pending = {};
  connection->pending_start = 0;
}

// What follows from the state of both directions: the last bytes' end, the guest's credit, the connection's end.
void VsockDevice::settle(Connection* connection) {
  using State = Connection::State;
  if (connection->state == State::kDraining) {
    if (connection->pending_bytes() == 0) remove(connection);
    return;
  }
  if (connection->state != State::kOpen) return;
  if (connection->guest_ended && connection->pending_bytes() == 0) {
    // Both ends: the guest has closed, and waits for the reset (clause 5.10.6.5).
    if (connection->guest_takes_no_more) return reset(connection);
    if (!connection->write_ended) ::shutdown(connection->socket.get(), SHUT_WR);
    connection->write_ended = true;
  }
  if (connection->host_takes_no_more) connection->shutdown_owed |= kVsockNoReceive;
  // The guest's idea of the room: tell it in time, but not for every packet.
  const uint32_t room = kVsockWindow - (connection->received - connection->announced);
  if (room < kVsockWindow / 2 && connection->forwarded != connection->announced) connection->owes_credit = true;
  if (connection->owes_credit || (connection->shutdown_owed & ~connection->shutdown_told) != 0) ready(connection);
}

// ---- from the guest

bool VsockDevice::receive_packets() {
  if (!transmit_waiting_) return false;
  Queue& transmit = queue(kTransmitQueue);
  transmit.disable_notifications();
  Chain& chain = chains_[0];
  for (int i = 0; i < kPacketsAtOnce; ++i) {
    if (resets_.size() >= kMostResets) return false;
    if (!transmit.pop(&chain)) {
      if (transmit.enable_notifications()) continue;
      transmit_waiting_ = false;
      return false;
    }
    VsockHeader header;
    if (!chain.readable.load(&header) || header.size > chain.readable.bytes()) {
      transmit.fail("packet shorter than it says");
      return false;
    }
    Buffers rest;
    chain.readable.split_back(chain.readable.bytes() - header.size, &rest);
    receive(header, &chain.readable);
    transmit.push(chain.head, 0);
  }
  return true;
}

void VsockDevice::receive(const VsockHeader& header, Buffers* data) {
  if (header.source_cid != options_.cid) return;
  const auto operation = static_cast<VsockOperation>(header.operation);
  if (header.destination_cid != kVsockHostCid || header.type != kVsockStream) {
    if (operation == VsockOperation::kReset) return;
    return owe_reset(header.destination_cid, header.destination_port, header.source_port, header.type);
  }
  const auto named = by_ports_.find(ports_key(header.destination_port, header.source_port));
  if (named != by_ports_.end()) return receive_for(find(named->second), header, data);
  if (operation == VsockOperation::kRequest) return open_from_guest(header);
  if (operation != VsockOperation::kReset) {
    owe_reset(kVsockHostCid, header.destination_port, header.source_port, kVsockStream);
  }
}

void VsockDevice::open_from_guest(const VsockHeader& header) {
  Connection* connection = nullptr;
  if (make_room()) {
    UniqueFd socket = options_.connect(header.destination_port);
    if (socket) connection = make_connection(std::move(socket));
  }
  if (connection == nullptr) {
    return owe_reset(kVsockHostCid, header.destination_port, header.source_port, kVsockStream);
  }
  name_ports(connection, header.destination_port, header.source_port);
  connection->state = Connection::State::kOpen;
  connection->peer_buffer = header.buffer_bytes;
  connection->peer_forwarded = header.forwarded_bytes;
  connection->owes_response = true;
  connection->readable = true;
  ready(connection);
}

void VsockDevice::receive_for(Connection* connection, const VsockHeader& header, Buffers* data) {
  using State = Connection::State;
  connection->peer_buffer = header.buffer_bytes;
  connection->peer_forwarded = header.forwarded_bytes;
  if (connection->readable && connection->credit() > 0) ready(connection);
  switch (static_cast<VsockOperation>(header.operation)) {
    case VsockOperation::kResponse: {
      if (connection->state != State::kRequested) return reset(connection);
      connection->state = State::kOpen;
      const std::string answer = "OK " + std::to_string(connection->host_port) + "\n";
      const ssize_t sent = ::send(connection->socket.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent != static_cast<ssize_t>(answer.size())) return reset(connection);
      return ready(connection);
    }
    case VsockOperation::kData:
      if (connection->guest_ended || connection->state == State::kRequested) return reset(connection);
      return deliver(connection, data);
    case VsockOperation::kCreditUpdate:
      return;
    case VsockOperation::kCreditRequest:
      connection->owes_credit = true;
      return ready(connection);
    case VsockOperation::kShutdown:
      return shut_down(connection, header.flags);
    case VsockOperation::kReset:
      // What the guest sent before it closed still goes to the host, which may be slow.
      if (connection->state == State::kOpen && connection->guest_ended && connection->pending_bytes() > 0) {
        forget_ports(connection);
        connection->state = State::kDraining;
        return;
      }
      return remove(connection);
    case VsockOperation::kRequest:
      break;
  }
  reset(connection);
}

void VsockDevice::deliver(Connection* connection, Buffers* data) {
  const uint64_t size = data->bytes();
  if (size > kVsockWindow - (connection->received - connection->forwarded)) return reset(connection);
  connection->received += static_cast<uint32_t>(size);
  if (connection->pending_bytes() == 0 && !connection->host_takes_no_more && size > 0) {
    const auto parts = data->parts();
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = std::min<size_t>(parts.size(), 1024);
    const ssize_t sent = ::sendmsg(connection->socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      data->advance(static_cast<uint64_t>(sent));
      connection->forwarded += static_cast<uint32_t>(sent);
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      connection->host_takes_no_more = true;
    }
  }
  if (connection->host_takes_no_more) {
    connection->forwarded += static_cast<uint32_t>(data->bytes());
  } else if (!data->empty()) {
    const uint64_t left = data->bytes();
    if (pending_total_ + left > kVsockPendingTotal) return reset(connection);
    if (connection->pending_start > 0) {
      const auto start = connection->pending.begin();
      connection->pending.erase(start, start + static_cast<ptrdiff_t>(connection->pending_start));
      connection->pending_start = 0;
    }
    const size_t before = connection->pending.size();
    connection->pending.resize(before + left);
    data->copy_out(std::span(connection->pending).subspan(before));
    pending_total_ += left;
    // Room may have come between the two, and its edge with it.
    flush(connection);
  }
  settle(connection);
}

void VsockDevice::shut_down(Connection* connection, uint32_t flags) {
  using State = Connection::State;
  if (connection->state == State::kRequested) return reset(connection);
  if ((flags & kVsockNoReceive) != 0 && !connection->guest_takes_no_more) {
    connection->guest_takes_no_more = true;
    if (connection->socket) ::shutdown(connection->socket.get(), SHUT_RD);
  }
  if ((flags & kVsockNoSend) != 0) connection->guest_ended = true;
  if (connection->state == State::kClosing) {
    if (connection->guest_takes_no_more && connection->guest_ended) reset(connection);
    return;
  }
  settle(connection);
}

// ---- to the guest

VsockHeader VsockDevice::header_for(Connection* connection, VsockOperation operation) const {
  VsockHeader header;
  header.source_cid = kVsockHostCid;
  header.destination_cid = options_.cid;
  header.source_port = connection->host_port;
  header.destination_port = connection->guest_port;
  header.type = kVsockStream;
  header.operation = static_cast<uint16_t>(operation);
  header.buffer_bytes = kVsockWindow;
  header.forwarded_bytes = connection->forwarded;
  connection->announced = connection->forwarded;
  connection->owes_credit = false;
  return header;
}

bool VsockDevice::take_receive_chain(Chain* chain) {
  Queue& receive = queue(kReceiveQueue);
  while (!receive.pop(chain)) {
    if (!receive.enable_notifications()) return false;
  }
  if (chain->writable.bytes() > sizeof(VsockHeader)) return true;
  receive.fail("receive buffer without room");
  return false;
}

bool VsockDevice::send_control(Connection* connection, VsockOperation operation, uint32_t flags) {
  Chain& chain = chains_[0];
  if (!take_receive_chain(&chain)) return false;
  VsockHeader header = header_for(connection, operation);
  header.flags = flags;
  chain.writable.store(header);
  queue(kReceiveQueue).push(chain.head, sizeof header);
  return true;
}

bool VsockDevice::send_resets() {
  while (!resets_.empty()) {
    Chain& chain = chains_[0];
    if (!take_receive_chain(&chain)) return false;
    chain.writable.store(resets_.front());
    queue(kReceiveQueue).push(chain.head, sizeof(VsockHeader));
    resets_.pop_front();
  }
  return true;
}

bool VsockDevice::serve_ready() {
  queue(kReceiveQueue).disable_notifications();
  if (!send_resets()) return false;
  for (int i = 0; i < kServesAtOnce && !ready_.empty(); ++i) {
    const uint64_t id = ready_.front();
    ready_.pop_front();
    Connection* connection = find(id);
    if (connection == nullptr) continue;
    connection->queued = false;
    const Served served = serve(connection);
    if (served == Served::kNoBuffers) {
      // The guest kicks when it has given more.
      connection->queued = true;
      ready_.push_front(id);
      return false;
    }
    if (served == Served::kMore) ready(connection);
  }
  return !ready_.empty() || !resets_.empty() || (transmit_waiting_ && resets_.size() < kMostResets);
}

bool VsockDevice::send_owed(Connection* connection) {
  if (connection->owes_request) {
    if (!send_control(connection, VsockOperation::kRequest, 0)) return false;
    connection->owes_request = false;
  }
  if (connection->owes_response) {
    if (!send_control(connection, VsockOperation::kResponse, 0)) return false;
    connection->owes_response = false;
  }
  if (connection->owes_credit_request) {
    if (!send_control(connection, VsockOperation::kCreditRequest, 0)) return false;
    connection->owes_credit_request = false;
  }
  if (connection->owes_credit && !send_control(connection, VsockOperation::kCreditUpdate, 0)) return false;
  return true;
}

VsockDevice::Served VsockDevice::serve(Connection* connection) {
  using State = Connection::State;
  if (connection->state == State::kGreeting || connection->state == State::kDraining) return Served::kDone;
  if (!send_owed(connection)) return Served::kNoBuffers;
  if (connection->state == State::kRequested) {
    if (connection->hung_up) reset(connection);
    return Served::kDone;
  }
  if (connection->state == State::kClosing) return Served::kDone;
  if (connection->guest_takes_no_more && connection->hung_up) connection->host_ended = true;
  if (!connection->host_ended && !connection->guest_takes_no_more && connection->readable) {
    const Served served = send_data(connection);
    if (served != Served::kDone) return served;
  }
  if (connection->host_ended) connection->shutdown_owed |= kVsockNoSend;
  if (connection->host_ended && connection->hung_up) connection->shutdown_owed |= kVsockNoReceive;
  if ((connection->shutdown_owed & ~connection->shutdown_told) != 0) {
    const uint32_t flags = connection->shutdown_owed | connection->shutdown_told;
    if (!send_control(connection, VsockOperation::kShutdown, flags)) return Served::kNoBuffers;
    connection->shutdown_told = flags;
  }
  if (connection->host_ended && connection->hung_up) {
    // Nobody is at the host's end: what the guest still says is dropped until it resets.
    connection->host_takes_no_more = true;
    flush(connection);
    connection->socket.reset();
    connection->state = State::kClosing;
    if (connection->guest_ended && connection->guest_takes_no_more) reset(connection);
  }
  return Served::kDone;
}

VsockDevice::Served VsockDevice::send_data(Connection* connection) {
  uint64_t room = connection->credit();
  if (room == 0) {
    if (!connection->credit_asked) {
      connection->credit_asked = connection->owes_credit_request = true;
      return Served::kMore;
    }
    return Served::kDone;  // a packet with credit brings it back
  }
  // One readv(2) for several of the guest's buffers, which are small.
  Queue& receive = queue(kReceiveQueue);
  parts_.clear();
  size_t count = 0;
  while (count < kChainsAtOnce && room > 0 && parts_.size() < 512 && take_receive_chain(&chains_[count])) {
    const uint64_t part = std::min<uint64_t>(room, chains_[count].writable.bytes() - sizeof(VsockHeader));
    chains_[count++].writable.slice(sizeof(VsockHeader), part, &parts_);
    room -= part;
  }
  if (receive.broken() || count == 0) return Served::kNoBuffers;
  const int most = static_cast<int>(std::min<size_t>(parts_.size(), 1024));
  const ssize_t got = ::readv(connection->socket.get(), parts_.data(), most);
  if (got <= 0) {
    const int error = errno;
    receive.unpop(static_cast<uint16_t>(count));
    if (got < 0 && error == EINTR) return Served::kMore;
    connection->readable = false;
    if (got < 0 && error == EAGAIN) return Served::kDone;
    connection->host_ended = true;
    if (got < 0) connection->hung_up = true;
    return Served::kDone;
  }
  uint64_t left = static_cast<uint64_t>(got);
  uint64_t window = connection->credit();
  size_t used = 0;
  for (; used < count && left > 0; ++used) {
    Chain& chain = chains_[used];
    const uint64_t part = std::min({left, window, chain.writable.bytes() - sizeof(VsockHeader)});
    VsockHeader header = header_for(connection, VsockOperation::kData);
    header.size = static_cast<uint32_t>(part);
    chain.writable.store(header);
    receive.stage(chain.head, static_cast<uint32_t>(sizeof header + part));
    left -= part;
    window -= part;
  }
  receive.publish();
  receive.unpop(static_cast<uint16_t>(count - used));
  connection->sent += static_cast<uint32_t>(got);
  connection->credit_asked = false;
  return Served::kMore;
}

}  // namespace hull::vmm
