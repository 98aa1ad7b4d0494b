#pragma once
// virtio-rng (virtio 1.2 clause 5.4): random bytes of the host's kernel.

#include "vmm/virtio/queue_device.h"

namespace hull::vmm {

class RngDevice final : public QueueDevice {
 public:
  /// Of one request; the driver is told how much it got (clause 5.4.6.1 lets the device give less).
  static constexpr size_t kMostBytes = 4096;

  ~RngDevice() override;
  uint32_t id() const override { return 4; }
  uint64_t features() const override { return kRingFeatures; }
  std::vector<uint16_t> queue_sizes() const override { return {64}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override { copy_config({}, offset, out); }

 private:
  std::string_view kind() const override { return "rng"; }
  void on_queue(size_t) override { waiting_ = true; }
  bool after_events(size_t lane) override;

  bool waiting_ = false;
};

}  // namespace hull::vmm
