#pragma once
// A hostile guest for any device: the input is the guest's memory with rings and descriptors in it, the features, and
// what is written to the configuration space. The device is activated, kicked, and stopped; each worker looks at its
// queues at least once in between. Included by fuzz targets only.

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/log.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm::fuzz {

inline constexpr uint64_t kBase = 0x10000;
inline constexpr size_t kMemory = 64 << 10;
/// Rings of queue i lie here, so that most inputs have sound rings with hostile content.
inline constexpr uint64_t kRings = 0x1000;
inline constexpr uint16_t kRingSize = 8;

inline uint64_t ring_place(size_t queue) { return kBase + queue * kRings; }

/// Bytes from the input, zero when it has ended.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}
  uint8_t byte() {
    if (rest_.empty()) return 0;
    const uint8_t first = rest_[0];
    rest_ = rest_.subspan(1);
    return first;
  }
  uint64_t number(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= uint64_t{byte()} << (8 * i);
    return value;
  }
  std::span<const uint8_t> rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const uint8_t> rest_;
};

/// Guest memory of 64 KiB; what a device gives back to the host is really gone.
class Memory {
 public:
  Memory() {
    void* at = ::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) std::abort();
    bytes_ = static_cast<std::byte*>(at);
    guest_ = GuestMemory(
        {{kBase, kMemory / 2, bytes_, -1, 0}, {kBase + kMemory / 2, kMemory / 2, bytes_ + kMemory / 2, -1, 0}});
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::munmap(bytes_, kMemory); }
  void reset() { std::memset(bytes_, 0, kMemory); }
  const GuestMemory& guest() const { return guest_; }

 private:
  std::byte* bytes_ = nullptr;
  GuestMemory guest_;
};

/// Lays out chains from the input in the rings of each queue: few bytes make a chain that devices take seriously.
inline void lay_out(Input* input, const GuestMemory& memory, size_t queues) {
  for (size_t queue = 0; queue < queues; ++queue) {
    const uint64_t base = ring_place(queue);
    uint64_t data = base + 0x400;
    const uint8_t chains = input->byte() % (kRingSize + 2);
    for (uint16_t i = 0; i < kRingSize; ++i) {
      struct {
        uint64_t address;
        uint32_t size;
        uint16_t flags, next;
      } descriptor{data, 0, 0, 0};
      const uint8_t how = input->byte();
      descriptor.size = how % 4 == 3 ? static_cast<uint32_t>(input->number(4)) : input->byte();
      descriptor.flags = input->byte() % 8;
      descriptor.next = how % 8 == 7 ? static_cast<uint16_t>(input->number(2)) : (i + 1) % kRingSize;
      if (how % 16 == 15) descriptor.address = input->number(8);
      // The content of readable buffers, mostly headers.
      for (uint32_t at = 0; at < std::min<uint32_t>(descriptor.size, 64); ++at) {
        (void)memory.store(data + at, input->byte());
      }
      (void)memory.store(base + 16ull * i, descriptor);
      (void)memory.store(base + 0x200 + 4 + 2ull * i, static_cast<uint16_t>(input->byte() % (kRingSize + 1)));
      data += 64;
    }
    (void)memory.store(base + 0x200 + 2, static_cast<uint16_t>(chains));
  }
}

/// One life of a device under a hostile guest.
inline void run(VirtioDevice* device, Input input) {
  static Memory memory;
  static UniqueFd kick = make_event().value();
  set_log(LogLevel::kError, LogFormat::kText, 2);
  memory.reset();
  const uint64_t features = input.byte() % 4 == 0 ? input.number(8) : ~0ull;
  const size_t queues = device->queue_sizes().size();
  const uint8_t odd = input.byte();
  for (int i = input.byte() % 4; i > 0; --i) {
    const std::array<uint8_t, 4> bytes{input.byte(), input.byte(), input.byte(), input.byte()};
    device->write_config(input.byte(), std::as_bytes(std::span(bytes)).first(input.byte() % 5));
    std::array<std::byte, 16> out;
    device->read_config(static_cast<uint32_t>(input.number(4)), out);
  }
  lay_out(&input, memory.guest(), queues);
  Activation activation{&memory.guest(), device->features() & (features | kFeatureVersion1), {}, [] {}};
  for (size_t i = 0; i < queues; ++i) {
    QueueAddresses addresses{kRingSize, ring_place(i), ring_place(i) + 0x200, ring_place(i) + 0x300, 0};
    if (odd % 16 == 1 + i)
      addresses = {static_cast<uint16_t>(input.number(2)), input.number(8), input.number(3), input.number(3), 0};
    activation.queues.push_back({addresses, kick.get(), [] {}});
  }
  signal_event(kick.get());
  if (!device->activate(std::move(activation)).ok()) return;
  const auto next = device->deactivate();
  if (next.size() != queues || device->broken()) std::abort();
}

}  // namespace hull::vmm::fuzz
