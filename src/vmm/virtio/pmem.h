#pragma once
// virtio-pmem (virtio 1.2 clause 5.19), read-only: a file of the host as memory of the guest, which reads it without
// copies (DAX); machines with the same file share its pages. The transport's machine has to map memory() into the guest
// at the address it gives, for reading only.

#include <memory>
#include <string>

#include "vmm/virtio/queue_device.h"

namespace hull::vmm {

class PmemDevice final : public QueueDevice {
 public:
  /// Linux takes persistent memory in pieces of this size.
  static constexpr uint64_t kAlignment = 2 << 20;

  /// Maps a regular file, rounded up to kAlignment with zeroes. kConflict when a machine has it for writing.
  static Result<std::unique_ptr<PmemDevice>> create(const std::string& path);
  ~PmemDevice() override;

  /// What to map; owned by the device.
  std::span<const std::byte> mapping() const { return {start_, size_}; }
  /// Where the guest finds it. Before activation.
  void set_guest_address(uint64_t address) { address_ = address; }

  uint32_t id() const override { return 27; }
  uint64_t features() const override { return kRingFeatures; }
  std::vector<uint16_t> queue_sizes() const override { return {64}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override;

 private:
  PmemDevice() = default;
  std::string_view kind() const override { return "pmem"; }
  void on_queue(size_t) override { waiting_ = true; }
  bool after_events(size_t lane) override;

  UniqueFd file_;  // holds the lock
  std::byte* start_ = nullptr;
  uint64_t size_ = 0;
  uint64_t address_ = 0;
  bool waiting_ = false;
};

}  // namespace hull::vmm
