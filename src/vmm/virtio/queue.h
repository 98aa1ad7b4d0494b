#pragma once
// The one reader of split virtqueues (virtio 1.2 clause 2.7) for all devices. The rings lie in memory that the guest
// changes at will, so every index, descriptor and address is copied once and then checked; a queue that is found to be
// nonsense is broken from there on and gives nothing more. No call fails the host, allocates by a number that the guest
// chose beyond the queue's size, or loops longer than that.
//
// A queue belongs to one thread. What it gives out (Buffers) points into guest memory: the content may change at any
// time, its place and length may not.

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/guest_memory.h"
#include "vmm/virtio/device.h"

namespace hull::vmm {

/// Ring features and the one that every device has (virtio 1.2 clause 6).
inline constexpr uint64_t kFeatureIndirect = 1ull << 28;
inline constexpr uint64_t kFeatureEventIndex = 1ull << 29;
inline constexpr uint64_t kFeatureVersion1 = 1ull << 32;
inline constexpr uint64_t kRingFeatures = kFeatureIndirect | kFeatureEventIndex | kFeatureVersion1;

/// The largest queue that is served; QEMU's MMIO transport offers this size for every device.
inline constexpr uint16_t kLargestQueue = 1024;

/// Pieces of guest memory that are read or written in order; what was consumed is gone from the front. The framing by
/// descriptors means nothing (clause 2.7.4.1), so devices see one run of bytes.
class Buffers {
 public:
  uint64_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }
  /// What is left, as readv(2) takes it. Valid until the next change.
  std::span<const iovec> parts() const { return std::span(parts_).subspan(first_); }
  /// Copies from the front and consumes it. False, with nothing consumed, when there is less than that.
  bool copy_out(std::span<std::byte> out);
  /// Copies to the front and consumes it; the number of bytes that found room.
  uint64_t copy_in(std::span<const std::byte> in);
  /// Fills with zeroes and consumes; the number of bytes that found room.
  uint64_t fill_zero(uint64_t size);
  /// Consumes without touching; at most all.
  void advance(uint64_t size);
  /// Moves the last `size` bytes to `tail` (which is overwritten). False when there is less.
  bool split_back(uint64_t size, Buffers* tail);
  /// `size` bytes from `offset` on as parts, appended to `out`; nothing is consumed. Less when there is less.
  void slice(uint64_t offset, uint64_t size, std::vector<iovec>* out) const;

  template <typename T>
  bool load(T* out) {
    return copy_out(std::as_writable_bytes(std::span(out, 1)));
  }
  template <typename T>
  bool store(const T& value) {
    if (bytes_ < sizeof value) return false;
    copy_in(std::as_bytes(std::span(&value, 1)));
    return true;
  }

  void clear();
  void append(std::span<std::byte> piece);

 private:
  std::vector<iovec> parts_;
  size_t first_ = 0;
  uint64_t bytes_ = 0;
};

/// One chain of descriptors that the driver made available.
struct Chain {
  uint16_t head = 0;
  Buffers readable;  ///< what the driver says
  Buffers writable;  ///< where the device answers
};

class Queue {
 public:
  /// Where the rings are. False (and broken) when they are not: size 0, no power of two or above kLargestQueue, rings
  /// misaligned or outside of memory. `memory` outlives the queue's use.
  bool start(const GuestMemory* memory, const QueueAddresses& addresses, uint64_t features);
  /// Forgets the rings; a stopped queue gives nothing and is not broken.
  void stop();

  bool active() const { return size_ != 0; }
  bool broken() const { return fault_ != nullptr; }
  /// What was nonsense, for the log; null when nothing was.
  const char* fault() const { return fault_; }
  /// Makes the queue broken because what a chain said is nonsense to the device.
  void fail(const char* why);
  uint16_t size() const { return size_; }

  /// Takes the next chain. False: there is none now, or the queue is broken.
  bool pop(Chain* chain);
  /// Gives back the chains that were popped last and not pushed, `count` of them: they come again.
  void unpop(uint16_t count);
  /// True when pop() would find something (or something broken).
  bool has_available();

  /// Returns a chain with the number of bytes that the device has written to it, and lets the driver see it.
  void push(uint16_t head, uint32_t written) {
    stage(head, written);
    publish();
  }
  /// The same in two steps, for chains that the driver has to see together (mergeable receive buffers).
  void stage(uint16_t head, uint32_t written);
  void publish();

  /// Whether the driver wants to hear of what was published since the last call (clauses 2.7.7, 2.7.10).
  bool needs_interrupt();
  /// Asks the driver to kick for new chains. True: some came in the meantime, go on with pop().
  bool enable_notifications();
  /// While the queue is being emptied kicks are of no use.
  void disable_notifications();

  /// The index of the available ring at which to go on, for vhost-user and resume.
  uint16_t next_available() const { return next_available_; }
  uint16_t in_flight() const { return in_flight_; }

 private:
  bool build(uint16_t head, Chain* chain);
  bool append(uint64_t address, uint64_t size, bool write, Chain* chain);
  bool refresh();

  const GuestMemory* memory_ = nullptr;
  std::byte* descriptors_ = nullptr;
  std::byte* available_ = nullptr;
  std::byte* used_ = nullptr;
  uint16_t size_ = 0;
  bool indirect_ = false, event_index_ = false;
  const char* fault_ = nullptr;

  uint16_t next_available_ = 0;  ///< of the available ring, free-running
  uint16_t seen_available_ = 0;  ///< the driver's index when it was last read
  uint16_t next_used_ = 0;       ///< free-running, with what is staged
  uint16_t signalled_used_ = 0;  ///< next_used_ when needs_interrupt() was last asked
  uint16_t in_flight_ = 0;       ///< popped and not pushed
  bool ever_signalled_ = false;
};

}  // namespace hull::vmm
