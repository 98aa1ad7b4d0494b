#pragma once
// What the devices whose queues are served here have in common: the queues, the threads that serve them, being broken.

#include <atomic>
#include <memory>
#include <string_view>
#include <vector>

#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm {

/// A lane is a thread with the queues that it serves; most devices have one. Everything named on_... runs in the lane's
/// thread, except on_activate and on_deactivate, which run in the transport's with no lane running.
class QueueDevice : public VirtioDevice {
 public:
  Result<void> activate(Activation activation) final;
  std::vector<uint16_t> deactivate() final;
  bool broken() const final { return broken_.load(std::memory_order_acquire); }
  void write_config(uint32_t, std::span<const std::byte>) override {}

 protected:
  /// Of the threads, for names and filters ("block").
  virtual std::string_view kind() const = 0;
  virtual size_t lanes() const { return 1; }
  virtual size_t lane_of(size_t /*queue*/) const { return 0; }

  /// Before the lanes run. The queues are started, the workers prepared: watch() what else there is to watch.
  virtual Result<void> on_activate() { return {}; }
  /// After the lanes have ended: finish or drop what is in flight.
  virtual void on_deactivate() {}
  /// First in each lane's thread, before system calls are taken away.
  virtual void on_thread() {}
  /// The driver kicked, or the device has just been activated.
  virtual void on_queue(size_t queue) = 0;
  /// Another descriptor; keys begin at kFirstKey.
  virtual void on_event(size_t /*lane*/, uint64_t /*key*/, uint32_t /*events*/) {}
  /// After each batch of events; true when there is more to do at once.
  virtual bool after_events(size_t /*lane*/) { return false; }

  static constexpr uint64_t kFirstKey = 1 << 16;

  Queue& queue(size_t index) { return queues_[index]; }
  size_t queue_count() const { return queues_.size(); }
  Worker& worker(size_t lane) { return lanes_[lane]->worker; }
  const GuestMemory& memory() const { return *activation_.memory; }
  /// Negotiated; valid while active.
  uint64_t negotiated() const { return activation_.features; }
  /// Interrupts when the driver wants it, and makes the device broken when the queue is. After each pass over a queue.
  void finish(size_t queue);
  void mark_broken(const char* why);
  void config_changed() {
    if (activation_.config_changed) activation_.config_changed();
  }

 private:
  struct Lane final : WorkerClient {
    void on_thread() override { device->on_thread(); }
    void on_start() override;
    void on_event(uint64_t key, uint32_t events) override;
    bool after_events() override;
    QueueDevice* device = nullptr;
    size_t index = 0;
    Worker worker;
  };
  Result<void> start_lanes();

  Activation activation_;
  std::vector<Queue> queues_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::atomic<bool> broken_ = false;
};

/// Copies the part of `whole` that a read of the configuration space wants; bytes beyond its end are zero.
void copy_config(std::span<const std::byte> whole, uint32_t offset, std::span<std::byte> out);

}  // namespace hull::vmm
