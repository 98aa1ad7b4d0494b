#include "vmm/virtio/net.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vmm {

namespace {

// Clause 5.1.3.
constexpr uint64_t kChecksum = 1ull << 0, kGuestChecksum = 1ull << 1, kMac = 1ull << 5, kGuestTso4 = 1ull << 7,
                   kGuestTso6 = 1ull << 8, kGuestEcn = 1ull << 9, kHostTso4 = 1ull << 11, kHostTso6 = 1ull << 12,
                   kHostEcn = 1ull << 13, kMergeableBuffers = 1ull << 15, kStatus = 1ull << 16,
                   kControlQueue = 1ull << 17, kMultiQueue = 1ull << 22;
constexpr uint64_t kGuestSegments = kGuestTso4 | kGuestTso6;

constexpr uint64_t kPortKey = 0, kReceiveTimerKey = 1, kTransmitTimerKey = 2;
constexpr int kFramesAtOnce = 64;
constexpr size_t kStaged = 128;
constexpr size_t kMostParts = 1023;  // and the overflow: IOV_MAX
constexpr size_t kEthernetHeader = 14;
constexpr size_t kPlainFrame = 9000 + 18 + NetDevice::kHeaderBytes;

struct NetSpace {
  MacAddress mac;
  uint16_t status = 1;  // link is up
  uint16_t most_pairs = 1;
  uint16_t mtu = 0;
} __attribute__((packed));

// Clause 5.1.6.5.
constexpr uint8_t kControlMultiQueue = 4, kSetPairs = 0, kAccepted = 0, kRefused = 1;

Result<void> check_tap(int fd) {
  ifreq request{};
  constexpr int kNeeded = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (fd < 0 || ::ioctl(fd, TUNGETIFF, &request) != 0 || (request.ifr_flags & kNeeded) != kNeeded) {
    return errorf(ErrorKind::kInvalid, "network card: descriptor {} is no tap with vnet headers", fd);
  }
  return {};
}

}  // namespace

Result<MacAddress> parse_mac(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  MacAddress mac{};
  bool good = text.size() == 17;
  for (size_t i = 0; good && i < mac.size(); ++i) {
    const int high = digit(text[3 * i]), low = digit(text[3 * i + 1]);
    good = high >= 0 && low >= 0 && (i == 5 || text[3 * i + 2] == ':');
    mac[i] = static_cast<uint8_t>(high << 4 | low);
  }
  if (!good || (mac[0] & 1) != 0) return errorf(ErrorKind::kInvalid, "MAC address {}: not one of a network card", text);
  return mac;
}

Result<UniqueFd> open_tap(const std::string& name, bool several) {
  if (name.empty() || name.size() >= IFNAMSIZ) return errorf(ErrorKind::kInvalid, "tap {}: no name for one", name);
  TRY_ASSIGN(UniqueFd tap, sys::open("/dev/net/tun", O_RDWR | O_NONBLOCK));
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0));
  if (::ioctl(tap.get(), TUNSETIFF, &request) != 0) return errnof("open tap {}", name);
  return tap;
}

Result<std::unique_ptr<NetDevice>> NetDevice::create(const NetConfig& config) {
  std::vector<int> fds{config.tap_fd};
  fds.insert(fds.end(), config.further_tap_fds.begin(), config.further_tap_fds.end());
  for (const int fd : fds) TRY(check_tap(fd));
  std::vector<UniqueFd> taps;  // all are good, and the device's from here on
  for (const int fd : fds) taps.emplace_back(fd);
  return create(config, std::move(taps));
}

Result<std::unique_ptr<NetDevice>> NetDevice::create(const NetConfig& config, std::vector<UniqueFd> ports) {
  TRY_ASSIGN(const MacAddress mac, parse_mac(config.mac));
  if (ports.empty() || ports.size() != config.queue_pairs || ports.size() > kMostPairs) {
    return errorf(ErrorKind::kInvalid, "network card with {} queue pairs and {} taps", config.queue_pairs,
                  ports.size());
  }
  for (const UniqueFd& port : ports) {
    TRY(check_tap(port.get()));
    const int flags = ::fcntl(port.get(), F_GETFL);
    ::fcntl(port.get(), F_SETFD, FD_CLOEXEC);
    if (flags < 0 || ::fcntl(port.get(), F_SETFL, flags | O_NONBLOCK) != 0) return errno_error("set up a tap");
  }
  auto device = std::make_unique<NetDevice>(std::move(ports), mac);
  device->taps_ = true;
  const uint64_t pairs = device->pairs_.size();
  const RateLimit share{config.limit.bytes_per_second / pairs, config.limit.operations_per_second / pairs};
  for (const auto& pair : device->pairs_) {
    TRY_ASSIGN(pair->receive_limit, RateLimiter::create(share));
    TRY_ASSIGN(pair->transmit_limit, RateLimiter::create(share));
  }
  return device;
}

NetDevice::NetDevice(std::vector<UniqueFd> ports, const MacAddress& mac) : mac_(mac) {
  for (UniqueFd& port : ports) {
    pairs_.push_back(std::make_unique<Pair>());
    pairs_.back()->port = std::move(port);
    pairs_.back()->staged.resize(kStaged);
  }
}

NetDevice::~NetDevice() { deactivate(); }

/// What the guest still sends is lost, as on a card without cable.
void NetDevice::remove_backing() {
  for (const auto& pair : pairs_) pair->port.reset();
  removed_ = true;
}

// A driver reads the address once and the number of pairs was negotiated; of the link it is told.
bool NetDevice::accepts_backing_of(const VirtioDevice& other) const {
  const auto& card = static_cast<const NetDevice&>(other);
  return card.mac_ == mac_ && card.pairs_.size() == pairs_.size() && card.taps_ == taps_;
}

void NetDevice::take_backing(VirtioDevice& other) {
  auto& card = static_cast<NetDevice&>(other);
  for (size_t i = 0; i < pairs_.size(); ++i) {
    pairs_[i]->port = std::move(card.pairs_[i]->port);
    pairs_[i]->receive_limit = std::move(card.pairs_[i]->receive_limit);
    pairs_[i]->transmit_limit = std::move(card.pairs_[i]->transmit_limit);
  }
  removed_ = false;
}

uint64_t NetDevice::features() const {
  const uint64_t always = kRingFeatures | kChecksum | kGuestChecksum | kMac | kGuestSegments | kGuestEcn | kHostTso4 |
                          kHostTso6 | kHostEcn | kMergeableBuffers | kStatus;
  return always | (pairs_.size() > 1 ? kControlQueue | kMultiQueue : 0);
}

std::vector<uint16_t> NetDevice::queue_sizes() const {
  std::vector<uint16_t> sizes(2 * pairs_.size(), 256);
  if (pairs_.size() > 1) sizes.push_back(16);
  return sizes;
}

void NetDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  NetSpace space;
  space.mac = mac_;
  space.status = removed_ ? 0 : 1;
  space.most_pairs = static_cast<uint16_t>(pairs_.size());
  copy_config(std::as_bytes(std::span(&space, 1)), offset, out);
}

// Clause 5.1.2: behind all pairs, or behind the first when there is no more than that.
size_t NetDevice::control_queue() const { return (negotiated() & kMultiQueue) != 0 ? 2 * pairs_.size() : 2; }

size_t NetDevice::lane_of(size_t index) const {
  if ((negotiated() & kControlQueue) != 0 && index == control_queue()) return 0;
  return std::min(index / 2, pairs_.size() - 1);
}

bool NetDevice::merges() const { return (negotiated() & kMergeableBuffers) != 0; }

Result<void> NetDevice::set_offloads(int port) const {
  const int header_bytes = kHeaderBytes;
  if (::ioctl(port, TUNSETVNETHDRSZ, &header_bytes) != 0) return errno_error("set a tap's header size");
  unsigned int offloads = 0;
  if ((negotiated() & kGuestChecksum) != 0) {
    offloads |= TUN_F_CSUM;
    if ((negotiated() & kGuestTso4) != 0) offloads |= TUN_F_TSO4;
    if ((negotiated() & kGuestTso6) != 0) offloads |= TUN_F_TSO6;
    if ((negotiated() & kGuestEcn) != 0 && (negotiated() & kGuestSegments) != 0) offloads |= TUN_F_TSO_ECN;
  }
  if (::ioctl(port, TUNSETOFFLOAD, offloads) != 0) return errno_error("set a tap's offloads");
  return {};
}

Result<void> NetDevice::on_activate() {
  for (size_t i = 0; i < pairs_.size(); ++i) {
    Pair& pair = *pairs_[i];
    if (!queue(2 * i).active() || !queue(2 * i + 1).active()) continue;
    if (!removed_) {
      if (taps_) TRY(set_offloads(pair.port.get()));
      // Edges: what the guest has no buffers for waits in the tap and wakes nobody.
      TRY(worker(i).watch(pair.port.get(), EPOLLIN | EPOLLOUT | EPOLLET, kFirstKey + kPortKey));
    }
    if (pair.receive_limit.unlimited()) continue;
    TRY(worker(i).watch(pair.receive_limit.timer_fd(), EPOLLIN, kFirstKey + kReceiveTimerKey));
    TRY(worker(i).watch(pair.transmit_limit.timer_fd(), EPOLLIN, kFirstKey + kTransmitTimerKey));
  }
  return {};
}

void NetDevice::on_deactivate() {
  for (size_t i = 0; i < pairs_.size(); ++i) {
    Pair& pair = *pairs_[i];
    if (2 * i < queue_count() && queue(2 * i).active()) queue(2 * i).unpop(static_cast<uint16_t>(pair.count));
    pair.first = pair.count = 0;
    pair.staged_bytes = 0;
    pair.port_readable = pair.transmit_waiting = false;
  }
  control_waiting_ = false;
}

void NetDevice::on_queue(size_t index) {
  if ((negotiated() & kControlQueue) != 0 && index == control_queue()) {
    control_waiting_ = true;
  } else if (index % 2 == 1) {
    pairs_[lane_of(index)]->transmit_waiting = true;
  }
}

void NetDevice::on_event(size_t lane, uint64_t key, uint32_t events) {
  Pair& pair = *pairs_[lane];
  if (key == kFirstKey + kReceiveTimerKey) {
    clear_event(pair.receive_limit.timer_fd());
  } else if (key == kFirstKey + kTransmitTimerKey) {
    clear_event(pair.transmit_limit.timer_fd());
  } else {
    if ((events & EPOLLIN) != 0) pair.port_readable = true;
    if ((events & EPOLLOUT) != 0) pair.transmit_waiting = true;
  }
}

bool NetDevice::after_events(size_t lane) {
  if (lane == 0 && control_waiting_) answer_control();
  Queue& receive_queue = queue(2 * lane);
  Queue& transmit_queue = queue(2 * lane + 1);
  if (!receive_queue.active() || !transmit_queue.active()) return false;
  bool more = transmit(pairs_[lane].get(), &transmit_queue);
  more = receive(pairs_[lane].get(), &receive_queue) || more;
  finish(2 * lane);
  finish(2 * lane + 1);
  return more;
}

// Takes buffers from the queue until the largest frame would fit; true when there is at least one.
bool NetDevice::stage_buffers(Pair* pair, Queue* receive_queue) {
  const uint64_t enough = (negotiated() & kGuestSegments) != 0 ? kLargestFrame : kPlainFrame;
  while (pair->count < kStaged && pair->staged_bytes < enough && (merges() || pair->count == 0)) {
    Chain& chain = pair->staged[(pair->first + pair->count) % kStaged];
    if (!receive_queue->pop(&chain)) {
      // Only an empty stage has to wait for the driver.
      if (pair->count == 0 && receive_queue->enable_notifications()) continue;
      break;
    }
    if (chain.writable.bytes() < kHeaderBytes) {
      receive_queue->fail("receive buffer without room for a header");
      return false;
    }
    pair->staged_bytes += chain.writable.bytes();
    ++pair->count;
  }
  return pair->count > 0;
}

bool NetDevice::receive(Pair* pair, Queue* receive_queue) {
  if (!pair->port_readable) return false;
  receive_queue->disable_notifications();
  for (int i = 0; i < kFramesAtOnce; ++i) {
    bool more = false;
    if (!receive_frame(pair, receive_queue, &more)) return false;
    if (!more) return false;
  }
  return true;
}

// False when the guest has no buffers or may not have more now.
bool NetDevice::receive_frame(Pair* pair, Queue* receive_queue, bool* more) {
  if (!pair->receive_limit.admit() || !stage_buffers(pair, receive_queue)) return false;
  pair->parts.clear();
  for (size_t i = 0; i < pair->count && pair->parts.size() < kMostParts; ++i) {
    const Buffers& room = pair->staged[(pair->first + i) % kStaged].writable;
    room.slice(0, room.bytes(), &pair->parts);
  }
  if (pair->parts.size() > kMostParts) pair->parts.resize(kMostParts);
  uint64_t room = 0;
  for (const iovec& part : pair->parts) room += part.iov_len;
  // What does not fit must not come cut off; only guests with few or small buffers ever need this.
  if (room < kLargestFrame) {
    pair->overflow.resize(kLargestFrame);
    pair->parts.push_back({pair->overflow.data(), pair->overflow.size()});
  }
  const ssize_t got = ::readv(pair->port.get(), pair->parts.data(), static_cast<int>(pair->parts.size()));
  if (got < 0 && errno == EINTR) return *more = true;
  if (got <= 0) {
    pair->port_readable = false;
    return true;
  }
  *more = true;
  const auto bytes = static_cast<uint64_t>(got);
  pair->receive_limit.charge(bytes);
  if (bytes > room || bytes < kHeaderBytes) return true;  // dropped
  give_frame(pair, receive_queue, bytes);
  return true;
}

void NetDevice::give_frame(Pair* pair, Queue* receive_queue, uint64_t bytes) {
  size_t used = 0;
  for (uint64_t left = bytes; left > 0; ++used) {
    const Chain& chain = pair->staged[(pair->first + used) % kStaged];
    const uint64_t part = std::min(left, chain.writable.bytes());
    receive_queue->stage(chain.head, static_cast<uint32_t>(part));
    pair->staged_bytes -= chain.writable.bytes();
    left -= part;
  }
  // num_buffers, which the tap leaves alone, is the header's last field.
  Buffers& header = pair->staged[pair->first].writable;
  header.advance(kHeaderBytes - sizeof(uint16_t));
  header.store(static_cast<uint16_t>(used));
  receive_queue->publish();
  pair->first = (pair->first + used) % kStaged;
  pair->count -= used;
}

bool NetDevice::transmit(Pair* pair, Queue* transmit_queue) {
  if (!pair->transmit_waiting) return false;
  transmit_queue->disable_notifications();
  for (int i = 0; i < kFramesAtOnce; ++i) {
    if (!pair->transmit_limit.admit()) return false;
    if (!transmit_queue->pop(&pair->chain)) {
      if (transmit_queue->enable_notifications()) continue;
      pair->transmit_waiting = false;
      return false;
    }
    const Buffers& frame = pair->chain.readable;
    const auto parts = frame.parts();
    if (frame.bytes() >= kHeaderBytes + kEthernetHeader && frame.bytes() <= kLargestFrame &&
        parts.size() <= kMostParts) {
      const ssize_t sent = ::writev(pair->port.get(), parts.data(), static_cast<int>(parts.size()));
      if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        // The port says when it takes more.
        transmit_queue->unpop(1);
        const bool again = errno == EINTR;
        pair->transmit_waiting = again;
        return again;
      }
      // What the kernel refuses (a header that makes no sense) is lost, as on a wire.
    }
    pair->transmit_limit.charge(frame.bytes());
    transmit_queue->push(pair->chain.head, 0);
  }
  return true;
}

void NetDevice::answer_control() {
  control_waiting_ = false;
  const size_t index = control_queue();
  if (index >= queue_count() || !queue(index).active()) return;
  Queue& control = queue(index);
  Chain chain;
  for (;;) {
    if (!control.pop(&chain)) {
      if (control.enable_notifications()) continue;
      break;
    }
    struct {
      uint8_t area = 0, command = 0;
    } header;
    uint16_t wanted = 0;
    // The host spreads over the pairs that the guest uses, whatever their number is: nothing has to be remembered.
    const bool good = chain.readable.load(&header) && header.area == kControlMultiQueue &&
                      header.command == kSetPairs && chain.readable.load(&wanted) && wanted >= 1 &&
                      wanted <= pairs_.size();
    const uint32_t written = chain.writable.store(good ? kAccepted : kRefused) ? 1 : 0;
    control.push(chain.head, written);
  }
  finish(index);
}

}  // namespace hull::vmm
