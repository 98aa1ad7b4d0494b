#include "vmm/virtio/queue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

namespace hull::vmm {

namespace {

static_assert(std::endian::native == std::endian::little, "virtio 1.x is little-endian; no conversions are made");

// Clause 2.7.5.
struct Descriptor {
  uint64_t address = 0;
  uint32_t size = 0;
  uint16_t flags = 0;
  uint16_t next = 0;
};
static_assert(sizeof(Descriptor) == 16);
constexpr uint16_t kNext = 1, kWrite = 2, kIndirectTable = 4;

// Clause 2.7.6 and 2.7.8: both rings begin with flags and an index.
constexpr size_t kFlags = 0, kIndex = 2, kRing = 4;
constexpr uint16_t kAvailableNoInterrupt = 1, kUsedNoNotify = 1;

uint16_t load16(const std::byte* at, std::memory_order order) {
  auto* place = reinterpret_cast<uint16_t*>(const_cast<std::byte*>(at));
  return std::atomic_ref<uint16_t>(*place).load(order);
}

void store16(std::byte* at, uint16_t value, std::memory_order order) {
  std::atomic_ref<uint16_t>(*reinterpret_cast<uint16_t*>(at)).store(value, order);
}

void store32(std::byte* at, uint32_t value) {
  std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(at)).store(value, std::memory_order_relaxed);
}

// The compiler may not read the guest's copy again instead of ours.
Descriptor copy_descriptor(const std::byte* from) {
  Descriptor descriptor;
  std::memcpy(&descriptor, from, sizeof descriptor);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return descriptor;
}

}  // namespace

void Buffers::clear() {
  parts_.clear();
  first_ = 0;
  bytes_ = 0;
}

void Buffers::append(std::span<std::byte> piece) {
  parts_.push_back({piece.data(), piece.size()});
  bytes_ += piece.size();
}

void Buffers::advance(uint64_t size) {
  size = std::min(size, bytes_);
  bytes_ -= size;
  while (size > 0) {
    iovec& part = parts_[first_];
    const uint64_t now = std::min<uint64_t>(size, part.iov_len);
    part.iov_base = static_cast<std::byte*>(part.iov_base) + now;
    part.iov_len -= now;
    size -= now;
    if (part.iov_len == 0) ++first_;
  }
}

bool Buffers::copy_out(std::span<std::byte> out) {
  if (out.size() > bytes_) return false;
  while (!out.empty()) {
    const size_t now = std::min(out.size(), parts_[first_].iov_len);
    std::memcpy(out.data(), parts_[first_].iov_base, now);
    out = out.subspan(now);
    advance(now);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return true;
}

uint64_t Buffers::copy_in(std::span<const std::byte> in) {
  const uint64_t total = std::min<uint64_t>(in.size(), bytes_);
  in = in.first(total);
  while (!in.empty()) {
    const size_t now = std::min(in.size(), parts_[first_].iov_len);
    std::memcpy(parts_[first_].iov_base, in.data(), now);
    in = in.subspan(now);
    advance(now);
  }
  return total;
}

uint64_t Buffers::fill_zero(uint64_t size) {
  size = std::min(size, bytes_);
  for (uint64_t left = size; left > 0;) {
    const size_t now = std::min<uint64_t>(left, parts_[first_].iov_len);
    std::memset(parts_[first_].iov_base, 0, now);
    left -= now;
    advance(now);
  }
  return size;
}

bool Buffers::split_back(uint64_t size, Buffers* tail) {
  tail->clear();
  if (size > bytes_) return false;
  uint64_t keep = bytes_ - size;
  bytes_ = keep;
  size_t index = first_;
  while (index < parts_.size() && keep >= parts_[index].iov_len) keep -= parts_[index++].iov_len;
  const size_t kept_parts = index + (keep > 0 ? 1 : 0);
  for (; index < parts_.size(); ++index) {
    std::span piece(static_cast<std::byte*>(parts_[index].iov_base), parts_[index].iov_len);
    tail->append(piece.subspan(keep));
    if (keep > 0) parts_[index].iov_len = keep;
    keep = 0;
  }
  parts_.resize(kept_parts);
  return true;
}

void Buffers::slice(uint64_t offset, uint64_t size, std::vector<iovec>* out) const {
  for (const iovec& part : parts()) {
    if (size == 0) return;
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    const size_t now = std::min<uint64_t>(size, part.iov_len - offset);
    out->push_back({static_cast<std::byte*>(part.iov_base) + offset, now});
    offset = 0;
    size -= now;
  }
}

bool Queue::start(const GuestMemory* memory, const QueueAddresses& addresses, uint64_t features) {
  *this = Queue();
  const uint16_t size = addresses.size;
  if (size == 0 || !std::has_single_bit(size) || size > kLargestQueue) {
    fail("queue size");
    return false;
  }
  // Clause 2.7: alignments of the three parts. The event fields at the rings' ends are there in any case.
  if (addresses.descriptors % 16 != 0 || addresses.driver_ring % 2 != 0 || addresses.device_ring % 4 != 0) {
    fail("alignment of a ring");
    return false;
  }
  const auto descriptors = memory->at(addresses.descriptors, uint64_t{16} * size);
  const auto available = memory->at(addresses.driver_ring, 6 + uint64_t{2} * size);
  const auto used = memory->at(addresses.device_ring, 6 + uint64_t{8} * size);
  if (descriptors.empty() || available.empty() || used.empty()) {
    fail("address of a ring");
    return false;
  }
  memory_ = memory;
  descriptors_ = descriptors.data();
  available_ = available.data();
  used_ = used.data();
  size_ = size;
  indirect_ = (features & kFeatureIndirect) != 0;
  event_index_ = (features & kFeatureEventIndex) != 0;
  next_available_ = seen_available_ = addresses.next_available;
  // A fresh ring says 0; one that is taken over says how far it is.
  next_used_ = signalled_used_ = load16(used_ + kIndex, std::memory_order_relaxed);
  return true;
}

void Queue::stop() {
  const uint16_t next = next_available_;
  *this = Queue();
  next_available_ = next;
}

void Queue::fail(const char* why) {
  if (fault_ == nullptr) fault_ = why;
}

bool Queue::refresh() {
  seen_available_ = load16(available_ + kIndex, std::memory_order_acquire);
  const uint16_t waiting = seen_available_ - next_available_;
  // What waits and what is in flight are different descriptors, so there can't be more than the table has.
  if (waiting > size_ - in_flight_) {
    fail("index of the available ring");
    return false;
  }
  return waiting != 0;
}

bool Queue::has_available() {
  if (!active() || broken()) return false;
  return seen_available_ != next_available_ || refresh();
}

bool Queue::pop(Chain* chain) {
  if (!has_available()) return false;
  const size_t slot = next_available_ & (size_ - 1);
  const uint16_t head = load16(available_ + kRing + 2 * slot, std::memory_order_relaxed);
  if (!build(head, chain)) return false;
  ++next_available_;
  ++in_flight_;
  return true;
}

void Queue::unpop(uint16_t count) {
  next_available_ -= count;
  in_flight_ -= count;
}

bool Queue::append(uint64_t address, uint64_t size, bool write, Chain* chain) {
  const auto at = [&](uint64_t bytes) {
    return write ? memory_->at(address, bytes) : memory_->readable_at(address, bytes);
  };
  Buffers* const buffers = write ? &chain->writable : &chain->readable;
  if (const auto piece = at(size); !piece.empty()) {
    buffers->append(piece);
    return true;
  }
  // Over the seam of neighbouring regions, at most once each.
  while (size > 0) {
    uint64_t part = 0;
    for (const MemoryRegion& region : memory_->regions()) {
      if (address < region.guest_address || address - region.guest_address >= region.size) continue;
      part = std::min(size, region.size - (address - region.guest_address));
    }
    const auto piece = at(part);
    if (piece.empty()) return false;
    buffers->append(piece);
    address += part;
    size -= part;
  }
  return true;
}

bool Queue::build(uint16_t head, Chain* chain) {
  chain->head = head;
  chain->readable.clear();
  chain->writable.clear();
  uint64_t table = 0;  // address of the indirect table; 0 while in the ring's own
  uint32_t count = size_;
  uint32_t index = head;
  uint64_t total = 0;
  for (uint32_t steps = 0;;) {
    if (index >= count) return fail("index of a descriptor"), false;
    Descriptor descriptor;
    if (table == 0) {
      descriptor = copy_descriptor(descriptors_ + size_t{16} * index);
    } else {
      const auto bytes = memory_->at(table + uint64_t{16} * index, sizeof descriptor);
      if (bytes.empty()) return fail("address of an indirect table"), false;
      descriptor = copy_descriptor(bytes.data());
    }
    if ((descriptor.flags & kIndirectTable) != 0) {
      // Clause 2.7.5.3: one table, the last of its chain, not within another.
      if (!indirect_ || table != 0 || (descriptor.flags & kNext) != 0) return fail("indirect descriptor"), false;
      if (descriptor.size == 0 || descriptor.size % 16 != 0) return fail("size of an indirect table"), false;
      if (descriptor.address == 0 || descriptor.address > ~0ull - descriptor.size) {
        return fail("address of an indirect table"), false;
      }
      table = descriptor.address;
      count = descriptor.size / 16;
      index = 0;
      continue;
    }
    // A chain is no longer than the queue (2.7.5.3.1); a loop would be.
    if (++steps > size_) return fail("length of a chain"), false;
    const bool write = (descriptor.flags & kWrite) != 0;
    if (descriptor.size == 0) return fail("empty descriptor"), false;
    if (!write && !chain->writable.empty()) return fail("readable descriptor after a writable one"), false;
    total += descriptor.size;
    if (total > UINT32_MAX) return fail("bytes of a chain"), false;
    if (!append(descriptor.address, descriptor.size, write, chain)) {
      return fail("address of a buffer"), false;
    }
    if ((descriptor.flags & kNext) == 0) return true;
    index = descriptor.next;
  }
}

void Queue::stage(uint16_t head, uint32_t written) {
  if (!active()) return;
  std::byte* element = used_ + kRing + size_t{8} * (next_used_ & (size_ - 1));
  store32(element, head);
  store32(element + 4, written);
  ++next_used_;
  --in_flight_;
}

void Queue::publish() {
  if (active()) store16(used_ + kIndex, next_used_, std::memory_order_release);
}

bool Queue::needs_interrupt() {
  if (!active() || next_used_ == signalled_used_) return false;
  // The index must be out before the driver's wish is read; the driver does it the other way round.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!event_index_) {
    signalled_used_ = next_used_;
    return (load16(available_ + kFlags, std::memory_order_relaxed) & kAvailableNoInterrupt) == 0;
  }
  const uint16_t event = load16(available_ + kRing + size_t{2} * size_, std::memory_order_relaxed);
  const uint16_t published = next_used_ - signalled_used_;
  const uint16_t behind = next_used_ - event - 1;
  signalled_used_ = next_used_;
  const bool first = !ever_signalled_;
  ever_signalled_ = true;
  return first || behind < published;
}

bool Queue::enable_notifications() {
  if (!active() || broken()) return false;
  if (event_index_) {
    store16(used_ + kRing + size_t{8} * size_, next_available_, std::memory_order_relaxed);
  } else {
    store16(used_ + kFlags, 0, std::memory_order_relaxed);
  }
  // The wish must be out before the index is read again, else a kick is missed.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_available();
}

void Queue::disable_notifications() {
  if (!active() || event_index_) return;
  store16(used_ + kFlags, kUsedNoNotify, std::memory_order_relaxed);
}

}  // namespace hull::vmm
