#include "vmm/virtio/console.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>

namespace hull::vmm {

namespace {

constexpr uint64_t kSizeFeature = 1ull << 0, kEmergencyWrite = 1ull << 2;
constexpr size_t kReceiveQueue = 0, kTransmitQueue = 1;
constexpr uint64_t kInputKey = 0, kOutputKey = 1;
constexpr int kChainsAtOnce = 64;
constexpr size_t kMostParts = 1024;

struct ConsoleSpace {
  uint16_t columns = 0, rows = 0;
  uint32_t ports = 1;
  uint32_t emergency = 0;
};

void make_non_blocking(int fd) {
  const int flags = fd < 0 ? -1 : ::fcntl(fd, F_GETFL);
  if (flags >= 0) ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

}  // namespace

ConsoleDevice::ConsoleDevice(ConsoleOptions options)
    : options_(std::move(options)), size_(options_.columns | uint32_t{options_.rows} << 16) {
  make_non_blocking(options_.input.get());
  make_non_blocking(options_.output.get());
}

ConsoleDevice::~ConsoleDevice() { deactivate(); }

uint64_t ConsoleDevice::features() const { return kRingFeatures | kSizeFeature | kEmergencyWrite; }

void ConsoleDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  const uint32_t size = size_.load();
  ConsoleSpace space;
  space.columns = static_cast<uint16_t>(size);
  space.rows = static_cast<uint16_t>(size >> 16);
  copy_config(std::as_bytes(std::span(&space, 1)), offset, out);
}

// Clause 5.3.4: one character that a guest in trouble says without a queue.
void ConsoleDevice::write_config(uint32_t offset, std::span<const std::byte> in) {
  if (offset != offsetof(ConsoleSpace, emergency) || in.empty() || !options_.output) return;
  [[maybe_unused]] const ssize_t written = ::write(options_.output.get(), in.data(), 1);
}

void ConsoleDevice::resize(uint16_t columns, uint16_t rows) {
  size_.store(columns | uint32_t{rows} << 16);
  const std::lock_guard lock(mutex_);
  if (active_) config_changed();
}

Result<void> ConsoleDevice::on_activate() {
  // Regular files can't be watched, and never make anyone wait.
  const auto watch = [&](const UniqueFd& fd, uint32_t events, uint64_t key) {
    return fd.valid() && worker(0).watch(fd.get(), events | EPOLLET, kFirstKey + key).ok();
  };
  input_polled_ = watch(options_.input, EPOLLIN, kInputKey);
  output_polled_ = options_.output.get() != options_.input.get() && watch(options_.output, EPOLLOUT, kOutputKey);
  input_readable_ = options_.input.valid();
  const std::lock_guard lock(mutex_);
  active_ = true;
  return {};
}

void ConsoleDevice::on_deactivate() {
  {
    const std::lock_guard lock(mutex_);
    active_ = false;
  }
  // What was not said yet is said by the next who serves the queue, from its beginning.
  if (saying_) queue(kTransmitQueue).unpop(1);
  saying_ = transmit_waiting_ = false;
}

void ConsoleDevice::on_queue(size_t index) {
  if (index == kTransmitQueue) transmit_waiting_ = true;
}

void ConsoleDevice::on_event(size_t, uint64_t key, uint32_t) {
  if (key == kFirstKey + kInputKey) input_readable_ = true;
  if (key == kFirstKey + kOutputKey) transmit_waiting_ = true;
}

bool ConsoleDevice::after_events(size_t) {
  bool more = transmit();
  more = receive() || more;
  finish(kReceiveQueue);
  finish(kTransmitQueue);
  return more;
}

bool ConsoleDevice::receive() {
  Queue& input = queue(kReceiveQueue);
  if (!input_readable_ || !input.active()) return false;
  Chain chain;
  for (int i = 0; i < kChainsAtOnce; ++i) {
    if (!input.pop(&chain)) {
      if (input.enable_notifications()) continue;
      return false;
    }
    const auto parts = chain.writable.parts();
    const ssize_t got =
        ::readv(options_.input.get(), parts.data(), static_cast<int>(std::min(parts.size(), kMostParts)));
    if (got <= 0) {
      input.unpop(1);
      input_readable_ = got < 0 && errno == EINTR;
      return input_readable_;
    }
    input.push(chain.head, static_cast<uint32_t>(got));
  }
  return true;
}

bool ConsoleDevice::transmit() {
  Queue& output = queue(kTransmitQueue);
  if (!transmit_waiting_ || !output.active()) return false;
  for (int i = 0; i < kChainsAtOnce; ++i) {
    if (!saying_ && !output.pop(&said_)) {
      if (output.enable_notifications()) continue;
      transmit_waiting_ = false;
      return false;
    }
    saying_ = true;
    while (!said_.readable.empty() && options_.output) {
      const auto parts = said_.readable.parts();
      const ssize_t put =
          ::writev(options_.output.get(), parts.data(), static_cast<int>(std::min(parts.size(), kMostParts)));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN && output_polled_) {
        transmit_waiting_ = false;  // until there is room
        return false;
      }
      if (put <= 0) break;  // nobody listens any more
      said_.readable.advance(static_cast<uint64_t>(put));
    }
    saying_ = false;
    output.push(said_.head, 0);
  }
  return true;
}

}  // namespace hull::vmm
