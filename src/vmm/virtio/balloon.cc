#include "vmm/virtio/balloon.h"

#include <sys/epoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace hull::vmm {

namespace {

constexpr uint64_t kStatsQueue = 1ull << 1, kDeflateOnOom = 1ull << 2, kReportingFeature = 1ull << 5;
constexpr int kChainsAtOnce = 64;
// Linux gives 256 pages in one chain.
constexpr uint64_t kMostPages = 64 << 10;

struct BalloonSpace {
  uint32_t target_pages = 0;
  uint32_t actual_pages = 0;
  uint32_t free_page_hint = 0, poison = 0;
};

struct StatEntry {
  uint16_t tag = 0;
  uint64_t value = 0;
} __attribute__((packed));
static_assert(sizeof(StatEntry) == 10);

}  // namespace

BalloonDevice::~BalloonDevice() { deactivate(); }

uint64_t BalloonDevice::features() const { return kRingFeatures | kStatsQueue | kDeflateOnOom | kReportingFeature; }

void BalloonDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  BalloonSpace space;
  space.target_pages = target_pages_.load();
  space.actual_pages = actual_pages_.load();
  copy_config(std::as_bytes(std::span(&space, 1)), offset, out);
}

void BalloonDevice::write_config(uint32_t offset, std::span<const std::byte> in) {
  if (offset != offsetof(BalloonSpace, actual_pages) || in.size() != sizeof(uint32_t)) return;
  uint32_t pages = 0;
  std::memcpy(&pages, in.data(), sizeof pages);
  actual_pages_.store(pages);
}

void BalloonDevice::set_target_bytes(uint64_t bytes) {
  target_pages_.store(static_cast<uint32_t>(std::min<uint64_t>(bytes / kPage, UINT32_MAX)));
  const std::lock_guard lock(mutex_);
  if (tell_guest_) tell_guest_();
}

void BalloonDevice::request_stats() {
  const std::lock_guard lock(mutex_);
  if (stats_wanted_) signal_event(stats_wanted_.get());
}

std::optional<BalloonStats> BalloonDevice::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

// Queues of features that were not taken do not exist, and those behind them move up: as Linux and QEMU count.
BalloonDevice::Role BalloonDevice::role_of(size_t index) const {
  if (index == 0) return Role::kInflate;
  if (index == 1) return Role::kDeflate;
  size_t next = 2;
  if ((negotiated() & kStatsQueue) != 0 && index == next++) return Role::kStats;
  if ((negotiated() & kReportingFeature) != 0 && index == next) return Role::kReporting;
  return Role::kNone;
}

Result<void> BalloonDevice::on_activate() {
  waiting_ = {};
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(stats_wanted_, make_event());
  tell_guest_ = [this] { config_changed(); };
  return worker(0).watch(stats_wanted_.get(), EPOLLIN, kFirstKey);
}

void BalloonDevice::on_deactivate() {
  const std::lock_guard lock(mutex_);
  tell_guest_ = nullptr;
  stats_wanted_.reset();
  stats_.reset();
  if (stats_chain_) queue(2).unpop(1);
  stats_chain_.reset();
  stats_owed_ = false;
  // A guest that starts anew has given nothing.
  actual_pages_.store(0);
}

void BalloonDevice::on_event(size_t, uint64_t, uint32_t) {
  clear_event(stats_wanted_.get());
  stats_owed_ = true;
}

bool BalloonDevice::after_events(size_t) {
  bool more = false;
  for (size_t i = 0; i < queue_count(); ++i) {
    if (!queue(i).active()) continue;
    if (waiting_[i]) more = serve(i) || more;
    if (role_of(i) == Role::kStats && stats_owed_ && stats_chain_) {
      queue(i).push(*stats_chain_, 0);
      stats_chain_.reset();
      stats_owed_ = false;
    }
    finish(i);
  }
  return more;
}

bool BalloonDevice::serve(size_t index) {
  Queue& requests = queue(index);
  Chain chain;
  for (int i = 0; i < kChainsAtOnce; ++i) {
    if (!requests.pop(&chain)) {
      if (requests.enable_notifications()) continue;
      waiting_[index] = false;
      return false;
    }
    switch (role_of(index)) {
      case Role::kInflate:
        inflate(&requests, &chain);
        break;
      case Role::kStats:
        take_stats(&requests, &chain);
        break;
      case Role::kReporting:
        report(&requests, &chain);
        break;
      case Role::kDeflate:  // pages come back by being touched
      case Role::kNone:
        requests.push(chain.head, 0);
        break;
    }
  }
  return true;
}

bool BalloonDevice::give_back(std::span<std::byte> piece) const {
  for (const MemoryRegion& region : memory().regions()) {
    if (piece.data() < region.host || piece.data() + piece.size() > region.host + region.size) continue;
    // Shared memory is in a file, from which a page is gone only by a hole; private memory is only this mapping.
    return ::madvise(piece.data(), piece.size(), region.fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) == 0;
  }
  return false;
}

void BalloonDevice::inflate(Queue* queue, Chain* chain) {
  Buffers& pages = chain->readable;
  if (pages.bytes() % sizeof(uint32_t) != 0 || pages.bytes() / sizeof(uint32_t) > kMostPages) {
    return queue->fail("list of pages");
  }
  // Neighbours are given back together; Linux counts downwards or upwards.
  uint64_t first = 0, count = 0;
  const auto flush = [&] {
    const auto piece = memory().at(first * kPage, count * kPage);
    if (count > 0 && !piece.empty()) give_back(piece);
    count = 0;
    return true;
  };
  for (uint32_t page = 0; pages.load(&page);) {
    if (memory().at(page * kPage, kPage).empty()) return queue->fail("page outside of memory");
    const bool joins = count > 0 && (page == first + count || page + 1ull == first);
    const uint64_t from = joins ? std::min<uint64_t>(first, page) : page;
    if (!joins || memory().at(from * kPage, (count + 1) * kPage).empty()) {
      flush();
      first = page;
      count = 1;
      continue;
    }
    first = from;
    ++count;
  }
  flush();
  queue->push(chain->head, 0);
}

void BalloonDevice::take_stats(Queue* queue, Chain* chain) {
  BalloonStats fresh;
  StatEntry entry;
  for (size_t i = 0; i < 2 * fresh.values.size() && chain->readable.load(&entry); ++i) {
    if (entry.tag < fresh.values.size()) fresh.values[entry.tag] = uint64_t{entry.value};
  }
  {
    const std::lock_guard lock(mutex_);
    stats_ = fresh;
  }
  if (stats_chain_) return queue->fail("second buffer of statistics");
  stats_chain_ = chain->head;
}

void BalloonDevice::report(Queue* queue, Chain* chain) {
  for (const iovec& part : chain->writable.parts()) {
    const std::span piece(static_cast<std::byte*>(part.iov_base), part.iov_len);
    if (reinterpret_cast<uintptr_t>(part.iov_base) % kPage != 0 || part.iov_len % kPage != 0) continue;
    if (give_back(piece)) reported_bytes_.fetch_add(part.iov_len);
  }
  queue->push(chain->head, 0);
}

}  // namespace hull::vmm
