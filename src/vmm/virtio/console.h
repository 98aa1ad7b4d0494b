#pragma once
// virtio-console (virtio 1.2 clause 5.3) with one port: bytes between the guest and two descriptors of the host. What
// the host does not take stays in the guest's queue.

#include <mutex>

#include "vmm/virtio/queue_device.h"

namespace hull::vmm {

struct ConsoleOptions {
  UniqueFd input;   ///< read; none: the guest never hears anything
  UniqueFd output;  ///< written; none: what the guest says is dropped
  uint16_t columns = 80, rows = 25;
};

class ConsoleDevice final : public QueueDevice {
 public:
  explicit ConsoleDevice(ConsoleOptions options);
  ~ConsoleDevice() override;

  /// Any thread; the guest is told.
  void resize(uint16_t columns, uint16_t rows);

  uint32_t id() const override { return 3; }
  uint64_t features() const override;
  std::vector<uint16_t> queue_sizes() const override { return {64, 64}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override;
  void write_config(uint32_t offset, std::span<const std::byte> in) override;

 private:
  std::string_view kind() const override { return "console"; }
  Result<void> on_activate() override;
  void on_deactivate() override;
  void on_queue(size_t queue) override;
  void on_event(size_t lane, uint64_t key, uint32_t events) override;
  bool after_events(size_t lane) override;
  bool receive();
  bool transmit();

  ConsoleOptions options_;
  std::atomic<uint32_t> size_;  // columns, and rows above
  std::mutex mutex_;            // of active_: nobody is told while the device goes down
  bool active_ = false;
  bool input_readable_ = false, input_polled_ = false, output_polled_ = false;
  bool transmit_waiting_ = false;
  Chain said_;  // popped, and not all of it written
  bool saying_ = false;
};

}  // namespace hull::vmm
