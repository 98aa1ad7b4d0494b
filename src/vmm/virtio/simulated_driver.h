#pragma once
// A driver for tests: guest memory of its own and the driver's side of split virtqueues in it (virtio 1.2 clause 2.7).
// Included by tests only.

#include <poll.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "vmm/guest_memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm::simulated {

struct Descriptor {
  uint64_t address = 0;
  uint32_t size = 0;
  uint16_t flags = 0;
  uint16_t next = 0;
};
inline constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;

/// Two neighbouring regions with a gap behind them and a third one, in one memfd.
class Memory {
 public:
  static constexpr uint64_t kBase = 0x10000;
  static constexpr uint64_t kFar = 0x1'0000'0000;

  explicit Memory(uint64_t low = 16 << 20, uint64_t far = 1 << 20) {
    fd_ = UniqueFd(::memfd_create("simulated", MFD_CLOEXEC));
    const uint64_t half = low / 2;
    if (::ftruncate(fd_.get(), static_cast<off_t>(low + far)) != 0) std::abort();
    void* at = ::mmap(nullptr, low + far, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (at == MAP_FAILED) std::abort();
    host_ = static_cast<std::byte*>(at);
    size_ = low + far;
    memory_ = GuestMemory({{kBase, half, host_, fd_.get(), 0},
                           {kBase + half, low - half, host_ + half, fd_.get(), half},
                           {kFar, far, host_ + low, fd_.get(), low}});
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::munmap(host_, size_); }

  const GuestMemory& guest() const { return memory_; }
  int fd() const { return fd_.get(); }
  uint64_t size() const { return size_; }
  std::byte* host() const { return host_; }
  uint64_t end_of_low() const { return memory_.regions()[1].guest_address + memory_.regions()[1].size; }
  uint64_t seam() const { return memory_.regions()[1].guest_address; }

  uint64_t allocate(uint64_t size, uint64_t alignment = 16) {
    next_ = (next_ + alignment - 1) / alignment * alignment;
    const uint64_t at = next_;
    next_ += size;
    if (next_ > end_of_low()) std::abort();
    return at;
  }
  uint64_t place(std::string_view text) {
    const uint64_t at = allocate(text.size());
    if (!memory_.write(at, std::as_bytes(std::span(text)))) std::abort();
    return at;
  }
  std::string text(uint64_t address, uint64_t size) const {
    std::string out(size, '\0');
    if (!memory_.read(address, std::as_writable_bytes(std::span(out)))) std::abort();
    return out;
  }

 private:
  UniqueFd fd_;
  std::byte* host_ = nullptr;
  uint64_t size_ = 0;
  uint64_t next_ = kBase + 0x1000;
  GuestMemory memory_;
};

struct Used {
  uint32_t id = 0;
  uint32_t written = 0;
};

/// The driver's side of one queue.
class Ring {
 public:
  Ring(Memory* memory, uint16_t size) : memory_(memory), size_(size) {
    addresses.size = size;
    addresses.descriptors = memory->allocate(16ull * size);
    addresses.driver_ring = memory->allocate(6 + 2ull * size);
    addresses.device_ring = memory->allocate(6 + 8ull * size);
    kick = UniqueFd(make_event().value());
    call = UniqueFd(make_event().value());
  }

  QueueAddresses addresses;
  UniqueFd kick, call;

  void set_descriptor(uint16_t index, Descriptor descriptor) {
    store(addresses.descriptors + 16ull * index, descriptor);
  }
  /// Puts a chain into consecutive descriptors and makes it available; its head.
  uint16_t add(const std::vector<Descriptor>& chain) {
    const uint16_t head = next_descriptor_;
    for (size_t i = 0; i < chain.size(); ++i) {
      Descriptor descriptor = chain[i];
      const uint16_t index = (next_descriptor_ + i) % size_;
      if (i + 1 < chain.size()) {
        descriptor.flags |= kNext;
        descriptor.next = (index + 1) % size_;
      }
      set_descriptor(index, descriptor);
    }
    next_descriptor_ = (next_descriptor_ + chain.size()) % size_;
    make_available(head);
    return head;
  }
  void make_available(uint16_t head) {
    store(addresses.driver_ring + 4 + 2ull * (available_ % size_), head);
    set_available_index(++available_);
  }
  void set_available_index(uint16_t index) {
    available_ = index;
    std::atomic_ref<uint16_t>(*at16(addresses.driver_ring + 2)).store(index, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  uint16_t available_index() const { return available_; }
  void set_available_flags(uint16_t flags) { store(addresses.driver_ring, flags); }
  void set_used_event(uint16_t event) { store(addresses.driver_ring + 4 + 2ull * size_, event); }
  uint16_t used_flags() const { return load16(addresses.device_ring); }
  uint16_t avail_event() const { return load16(addresses.device_ring + 4 + 8ull * size_); }
  uint16_t used_index() const {
    return std::atomic_ref<uint16_t>(*at16(addresses.device_ring + 2)).load(std::memory_order_acquire);
  }
  void notify() const { signal_event(kick.get()); }

  /// The next used element, if there is one.
  std::optional<Used> take_used() {
    if (used_index() == seen_used_) return std::nullopt;
    Used used;
    const uint64_t at = addresses.device_ring + 4 + 8ull * (seen_used_++ % size_);
    if (!memory_->guest().load(at, &used)) std::abort();
    return used;
  }
  /// Waits for interrupts until there is a used element; nothing after `timeout_ms`.
  std::optional<Used> wait_used(int timeout_ms = 5000) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    for (;;) {
      // Wish for an interrupt at the next element, then look once more: as Linux does.
      set_used_event(seen_used_);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (auto used = take_used()) return used;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      if (left.count() <= 0) return std::nullopt;
      pollfd wait{call.get(), POLLIN, 0};
      ::poll(&wait, 1, static_cast<int>(left.count()));
      clear_event(call.get());
    }
  }
  QueueWiring wiring() const {
    const int call_fd = call.get();
    return {addresses, kick.get(), [call_fd] { signal_event(call_fd); }};
  }

 private:
  uint16_t* at16(uint64_t address) const { return reinterpret_cast<uint16_t*>(memory_->guest().at(address, 2).data()); }
  uint16_t load16(uint64_t address) const {
    return std::atomic_ref<uint16_t>(*at16(address)).load(std::memory_order_relaxed);
  }
  void store(uint64_t address, uint16_t value) {
    std::atomic_ref<uint16_t>(*at16(address)).store(value, std::memory_order_relaxed);
  }
  void store(uint64_t address, const Descriptor& descriptor) {
    if (!memory_->guest().store(address, descriptor)) std::abort();
  }

  Memory* memory_;
  uint16_t size_;
  uint16_t next_descriptor_ = 0, available_ = 0, seen_used_ = 0;
};

/// Rings for all queues of a device and its activation.
class Driver {
 public:
  explicit Driver(VirtioDevice* device, uint64_t features = ~0ull, uint16_t largest = 64)
      : config_event(make_event().value()), device_(device), features_(device->features() & features) {
    for (const uint16_t size : device->queue_sizes()) {
      rings.push_back(std::make_unique<Ring>(&memory, std::min(size, largest)));
    }
  }
  ~Driver() { device_->deactivate(); }
  Result<void> start() {
    Activation activation{&memory.guest(), features_, {}, [fd = config_event.get()] { signal_event(fd); }};
    for (const auto& ring : rings) activation.queues.push_back(ring->wiring());
    return device_->activate(std::move(activation));
  }
  Ring& ring(size_t index) { return *rings[index]; }
  /// Waits until the device says that something changed (or that it is broken).
  bool wait_config(int timeout_ms = 5000) {
    pollfd wait{config_event.get(), POLLIN, 0};
    return ::poll(&wait, 1, timeout_ms) == 1 && clear_event(config_event.get());
  }

  Memory memory;
  std::vector<std::unique_ptr<Ring>> rings;
  UniqueFd config_event;

 private:
  VirtioDevice* device_;
  uint64_t features_;
};

}  // namespace hull::vmm::simulated
