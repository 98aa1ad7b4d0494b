#pragma once
// What a virtio device is to its transport (virtio 1.2), be that our MMIO transport in hull-vmm or a vhost-user front
// end such as QEMU: an id, feature bits, a configuration space, and queues that it serves while active. The device does
// not know which transport it has.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/error.h"
#include "vmm/guest_memory.h"

namespace hull::vmm {

/// Where one queue lies, as the driver told the transport; guest-physical addresses, nothing checked yet.
struct QueueAddresses {
  uint16_t size = 0;
  uint64_t descriptors = 0, driver_ring = 0, device_ring = 0;
  uint16_t next_available = 0;  ///< where to go on (vhost-user, resume); 0 for a fresh queue
};

/// One queue of an active device.
struct QueueWiring {
  QueueAddresses addresses;
  int kick_fd = -1;  ///< eventfd: the driver has put something into the queue. Not owned; non-blocking.
  /// Tells the driver that the used ring has grown. From any thread of the device.
  std::function<void()> interrupt;
};

/// All that a device gets at DRIVER_OK. The functions are called from the device's threads, and also from within
/// activate() and deactivate(): they take no lock that the transport holds then.
struct Activation {
  const GuestMemory* memory = nullptr;   ///< outlives the activation
  uint64_t features = 0;                 ///< negotiated; a subset of what was offered
  std::vector<QueueWiring> queues;       ///< one for each queue; one that the driver did not enable has size 0
  std::function<void()> config_changed;  ///< tells the driver that the configuration space has changed
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;
  virtual uint32_t id() const = 0;  ///< virtio device id (1 net, 2 block, ...)
  /// Device feature bits with VIRTIO_F_VERSION_1; ring features (EVENT_IDX, INDIRECT_DESC) are the device's too.
  virtual uint64_t features() const = 0;
  /// Largest size of each queue that the transport offers, a power of two; its length is the number of queues.
  virtual std::vector<uint16_t> queue_sizes() const = 0;
  /// Reads of the configuration space; bytes beyond its end are zero. Any thread.
  virtual void read_config(uint32_t offset, std::span<std::byte> out) const = 0;
  /// Writes of the driver; ignored where nothing may be written.
  virtual void write_config(uint32_t offset, std::span<const std::byte> in) = 0;
  /// Starts serving the queues in threads of its own. A queue that the guest wired wrong makes the device broken
  /// (it stops, and asks for a reset through DEVICE_NEEDS_RESET), never an error of the host.
  virtual Result<void> activate(Activation activation) = 0;
  /// Stops serving: when it returns no thread of the device touches guest memory. For each queue where it would go on.
  virtual std::vector<uint16_t> deactivate() = 0;
  /// True for devices whose files or taps can be taken away, and others given, while a guest has the device.
  virtual bool replaceable() const { return false; }
  virtual bool has_backing() const { return true; }
  /// Gives up what is behind the device: files are closed, a card's link goes down, and what the guest asks for from
  /// here on fails. Only while inactive.
  virtual void remove_backing() {}
  /// True when a guest that knows this device needs no more than a change of the configuration space to go on with what
  /// is behind `other`, which has the same id.
  virtual bool accepts_backing_of(const VirtioDevice& /*other*/) const { return false; }
  /// Goes on with what is behind `other`, which was accepted and never active. Only while inactive and without backing.
  virtual void take_backing(VirtioDevice& /*other*/) {}
  /// True once the guest's queues were found to be nonsense; cleared by deactivate().
  virtual bool broken() const = 0;
};

}  // namespace hull::vmm
