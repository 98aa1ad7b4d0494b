#pragma once
// The virtio transport over MMIO, version 2 (virtio 1.2, 4.2): the registers of one device, from which it learns where
// the driver has put its queues. Everything that the driver writes is bounded here or stays a plain number.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/bus.h"
#include "vmm/guest_memory.h"
#include "vmm/virtio/device.h"

namespace hull::vmm {

namespace mmio {
/// Register offsets (virtio 1.2, 4.2.2).
enum Register : uint64_t {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAcknowledge = 0x064,
  kStatus = 0x070,
  kQueueDescriptorsLow = 0x080,
  kQueueDescriptorsHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kSharedMemorySelect = 0x0ac,
  kSharedMemoryLengthLow = 0x0b0,
  kSharedMemoryBaseHigh = 0x0bc,
  kConfigGeneration = 0x0fc,
  kConfig = 0x100,
};
inline constexpr uint32_t kMagicValue = 0x74726976;  // "virt"
inline constexpr uint32_t kVendor = 0x4c4c5548;      // "HULL"
/// Device status (2.1).
enum Status : uint32_t {
  kAcknowledge = 1,
  kDriver = 2,
  kDriverOk = 4,
  kFeaturesOk = 8,
  kNeedsReset = 64,
  kFailed = 128,
};
inline constexpr uint32_t kUsedBuffer = 1, kConfigChange = 2;  // interrupt status
}  // namespace mmio

/// Runs a piece of work that starts or stops a device's threads and returns when it is done. The machine gives one that
/// uses a thread whose system-call filter those threads may inherit.
using RunElsewhere = std::function<void(const std::function<void()>& work)>;

class MmioTransport : public BusDevice {
 public:
  /// Does not own the device, nor the memory, nor interrupt_fd (an eventfd; each write is an edge). All outlive it.
  static Result<std::unique_ptr<MmioTransport>> create(VirtioDevice* device, const GuestMemory* memory,
                                                       int interrupt_fd, RunElsewhere run_elsewhere = {});
  ~MmioTransport() override;

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

  /// The eventfds behind QueueNotify, one for each queue: for KVM_IOEVENTFD with the queue's number as value.
  std::vector<int> notify_fds() const;
  /// As a reset by the driver: when it returns, the device's threads are gone.
  void reset();
  /// Stops the device, lets `change` do something to it, and lets it go on where it was; the guest, which may be using
  /// it, is told that the configuration has changed.
  void change_device(const std::function<void()>& change);
  /// Whether a driver of the guest uses the device now.
  bool active();

 private:
  MmioTransport(VirtioDevice* device, const GuestMemory* memory, int interrupt_fd, RunElsewhere run_elsewhere);
  struct QueueState {
    uint16_t most = 0;
    uint16_t size = 0;
    bool ready = false;
    uint64_t descriptors = 0, driver_ring = 0, device_ring = 0;
    UniqueFd kick;
  };
  uint32_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint32_t value);
  void write_queue_register(uint64_t offset, uint32_t value);
  void write_status(uint32_t value);
  void activate(const std::vector<uint16_t>& next_available = {});
  void reset_locked();
  void notify(uint32_t queue);
  QueueState* selected_queue();
  void interrupt(uint32_t why);
  void run(const std::function<void()>& work);

  VirtioDevice* device_;
  const GuestMemory* memory_;
  int interrupt_fd_;
  RunElsewhere run_elsewhere_;
  std::mutex mutex_;  // held over each access; not by interrupt(), which the device's threads call
  std::atomic<uint32_t> interrupt_status_ = 0;
  std::atomic<uint32_t> generation_ = 0;
  uint32_t status_ = 0;
  bool active_ = false;
  uint64_t driver_features_ = 0;
  uint32_t device_features_select_ = 0, driver_features_select_ = 0, queue_select_ = 0;
  std::vector<QueueState> queues_;
};

}  // namespace hull::vmm
