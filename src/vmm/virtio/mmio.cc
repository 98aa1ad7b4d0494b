#include "vmm/virtio/mmio.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/log.h"

namespace hull::vmm {

namespace {
constexpr uint32_t kRegisterBytes = 4;
constexpr uint64_t kVersion1 = 1ull << 32;  // VIRTIO_F_VERSION_1
constexpr uint64_t kConfigBytes = 0xf00;    // of the window, behind the registers

void set_low(uint64_t& target, uint32_t value) { target = (target & ~0xffffffffull) | value; }
void set_high(uint64_t& target, uint32_t value) { target = (target & 0xffffffffull) | (uint64_t{value} << 32); }
bool is_power_of_two(uint32_t value) { return value != 0 && (value & (value - 1)) == 0; }
}  // namespace

MmioTransport::MmioTransport(VirtioDevice* device, const GuestMemory* memory, int interrupt_fd,
                             RunElsewhere run_elsewhere)
    : device_(device), memory_(memory), interrupt_fd_(interrupt_fd), run_elsewhere_(std::move(run_elsewhere)) {}

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(VirtioDevice* device, const GuestMemory* memory,
                                                             int interrupt_fd, RunElsewhere run_elsewhere) {
  std::unique_ptr<MmioTransport> transport(new MmioTransport(device, memory, interrupt_fd, std::move(run_elsewhere)));
  for (const uint16_t most : device->queue_sizes()) {
    QueueState& queue = transport->queues_.emplace_back();
    queue.most = most;
    queue.kick.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!queue.kick) return errno_error("make a queue's eventfd");
  }
  return transport;
}

MmioTransport::~MmioTransport() { reset(); }

void MmioTransport::run(const std::function<void()>& work) {
  if (run_elsewhere_) {
    run_elsewhere_(work);
  } else {
    work();
  }
}

std::vector<int> MmioTransport::notify_fds() const {
  std::vector<int> fds;
  for (const QueueState& queue : queues_) fds.push_back(queue.kick.get());
  return fds;
}

void MmioTransport::reset() {
  const std::lock_guard lock(mutex_);
  reset_locked();
}

void MmioTransport::read(uint64_t offset, std::span<std::byte> out) {
  std::memset(out.data(), 0, out.size());
  const std::lock_guard lock(mutex_);
  if (offset >= mmio::kConfig) {
    const uint64_t inside = offset - mmio::kConfig;
    if (inside < kConfigBytes) device_->read_config(static_cast<uint32_t>(inside), out);
    return;
  }
  if (out.size() != kRegisterBytes || offset % kRegisterBytes != 0) return;
  const uint32_t value = read_register(offset);
  std::memcpy(out.data(), &value, sizeof(value));
}

void MmioTransport::write(uint64_t offset, std::span<const std::byte> in) {
  const std::lock_guard lock(mutex_);
  if (offset >= mmio::kConfig) {
    const uint64_t inside = offset - mmio::kConfig;
    if (inside < kConfigBytes && (status_ & mmio::kDriver) != 0) {
      device_->write_config(static_cast<uint32_t>(inside), in);
    }
    return;
  }
  if (in.size() != kRegisterBytes || offset % kRegisterBytes != 0) return;
  uint32_t value = 0;
  std::memcpy(&value, in.data(), sizeof(value));
  write_register(offset, value);
}

MmioTransport::QueueState* MmioTransport::selected_queue() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

uint32_t MmioTransport::read_register(uint64_t offset) {
  const QueueState* queue = selected_queue();
  switch (offset) {
    case mmio::kMagic:
      return mmio::kMagicValue;
    case mmio::kVersion:
      return 2;
    case mmio::kDeviceId:
      return device_->id();
    case mmio::kVendorId:
      return mmio::kVendor;
    case mmio::kDeviceFeatures:
      if (device_features_select_ > 1) return 0;
      return static_cast<uint32_t>(device_->features() >> (32 * device_features_select_));
    case mmio::kQueueSizeMax:
      return queue != nullptr ? queue->most : 0;
    case mmio::kQueueReady:
      return queue != nullptr && queue->ready ? 1 : 0;
    case mmio::kInterruptStatus:
      return interrupt_status_.load(std::memory_order_acquire);
    case mmio::kStatus:
      return status_ | (active_ && device_->broken() ? static_cast<uint32_t>(mmio::kNeedsReset) : 0);
    case mmio::kConfigGeneration:
      return generation_.load(std::memory_order_acquire);
    default:
      // There is no shared memory region: its length and base read as all ones (4.2.2, SHMLen).
      return offset >= mmio::kSharedMemoryLengthLow && offset <= mmio::kSharedMemoryBaseHigh ? UINT32_MAX : 0;
  }
}

void MmioTransport::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case mmio::kDeviceFeaturesSelect:
      device_features_select_ = value;
      return;
    case mmio::kDriverFeaturesSelect:
      driver_features_select_ = value;
      return;
    case mmio::kDriverFeatures:
      if ((status_ & mmio::kFeaturesOk) != 0 || driver_features_select_ > 1) return;
      if (driver_features_select_ == 0) set_low(driver_features_, value);
      if (driver_features_select_ == 1) set_high(driver_features_, value);
      return;
    case mmio::kQueueSelect:
      queue_select_ = value;
      return;
    case mmio::kQueueNotify:
      return notify(value);
    case mmio::kInterruptAcknowledge:
      interrupt_status_.fetch_and(~value, std::memory_order_acq_rel);
      return;
    case mmio::kStatus:
      return write_status(value);
    default:
      return write_queue_register(offset, value);
  }
}

/// A queue's place is fixed once it is ready, and no queue comes up after the device has started.
void MmioTransport::write_queue_register(uint64_t offset, uint32_t value) {
  QueueState* queue = selected_queue();
  if (queue == nullptr || active_) return;
  if (offset == mmio::kQueueReady) {
    const bool good = queue->size != 0 && (status_ & mmio::kFeaturesOk) != 0;
    queue->ready = value == 1 && good;
    return;
  }
  if (queue->ready) return;
  switch (offset) {
    case mmio::kQueueSize:
      queue->size = is_power_of_two(value) && value <= queue->most ? static_cast<uint16_t>(value) : 0;
      return;
    case mmio::kQueueDescriptorsLow:
      return set_low(queue->descriptors, value);
    case mmio::kQueueDescriptorsHigh:
      return set_high(queue->descriptors, value);
    case mmio::kQueueDriverLow:
      return set_low(queue->driver_ring, value);
    case mmio::kQueueDriverHigh:
      return set_high(queue->driver_ring, value);
    case mmio::kQueueDeviceLow:
      return set_low(queue->device_ring, value);
    case mmio::kQueueDeviceHigh:
      return set_high(queue->device_ring, value);
    default:
      return;
  }
}

void MmioTransport::notify(uint32_t number) {
  if (number >= queues_.size()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(queues_[number].kick.get(), &one, sizeof(one));
}

void MmioTransport::interrupt(uint32_t why) {
  interrupt_status_.fetch_or(why, std::memory_order_acq_rel);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(interrupt_fd_, &one, sizeof(one));
}

/// The driver sets bits one after the other (3.1.1) and never clears one but by a reset.
void MmioTransport::write_status(uint32_t value) {
  if (value == 0) return reset_locked();
  const uint32_t added = value & ~status_;
  if ((added & mmio::kFeaturesOk) != 0) {
    const bool good = (driver_features_ & ~device_->features()) == 0 && (driver_features_ & kVersion1) != 0;
    if (!good) value &= ~static_cast<uint32_t>(mmio::kFeaturesOk);
  }
  status_ |= value & 0xff & ~static_cast<uint32_t>(mmio::kNeedsReset);
  if ((added & mmio::kDriverOk) != 0 && (status_ & mmio::kFeaturesOk) != 0 && !active_) activate();
}

void MmioTransport::change_device(const std::function<void()>& change) {
  const std::lock_guard lock(mutex_);
  std::vector<uint16_t> next;
  const bool was_active = std::exchange(active_, false);
  run([&] {
    if (was_active) next = device_->deactivate();
    change();
  });
  generation_.fetch_add(1, std::memory_order_acq_rel);
  if (!was_active) return;
  activate(next);
  interrupt(mmio::kConfigChange);
}

bool MmioTransport::active() {
  const std::lock_guard lock(mutex_);
  return active_;
}

void MmioTransport::activate(const std::vector<uint16_t>& next_available) {
  Activation activation;
  activation.memory = memory_;
  activation.features = driver_features_;
  for (const QueueState& queue : queues_) {
    QueueWiring& wiring = activation.queues.emplace_back();
    wiring.addresses.size = queue.ready ? queue.size : 0;
    wiring.addresses.descriptors = queue.descriptors;
    wiring.addresses.driver_ring = queue.driver_ring;
    wiring.addresses.device_ring = queue.device_ring;
    wiring.kick_fd = queue.kick.get();
    const size_t index = activation.queues.size() - 1;
    if (index < next_available.size()) wiring.addresses.next_available = next_available[index];
    wiring.interrupt = [this] { interrupt(mmio::kUsedBuffer); };
  }
  activation.config_changed = [this] {
    generation_.fetch_add(1, std::memory_order_acq_rel);
    interrupt(mmio::kConfigChange);
  };
  run([&] {
    const Result<void> done = device_->activate(std::move(activation));
    if (done.ok()) {
      active_ = true;
      return;
    }
    log_warning("virtio device {}: {}", device_->id(), done.error().message());
    status_ |= mmio::kNeedsReset;
  });
}

void MmioTransport::reset_locked() {
  if (active_) {
    run([&] { ignore_result(Result<std::vector<uint16_t>>(device_->deactivate())); });
  }
  active_ = false;
  status_ = 0;
  driver_features_ = 0;
  device_features_select_ = driver_features_select_ = queue_select_ = 0;
  interrupt_status_.store(0, std::memory_order_release);
  for (QueueState& queue : queues_) {
    queue.size = 0;
    queue.ready = false;
    queue.descriptors = queue.driver_ring = queue.device_ring = 0;
    // A kick from before the reset is none of the next driver's.
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t done = ::read(queue.kick.get(), &count, sizeof(count));
  }
}

}  // namespace hull::vmm
