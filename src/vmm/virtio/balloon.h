#pragma once
// virtio-balloon (virtio 1.2 clause 5.5): memory goes back to the host, either what the host asks the guest for
// (set_target_bytes) or what the guest reports as free by itself; the guest takes back what it needs, also from the
// balloon when it is about to run out.

#include <array>
#include <atomic>
#include <mutex>
#include <optional>

#include "vmm/virtio/queue_device.h"

namespace hull::vmm {

/// What the guest says of its memory; bytes or counts, absent where it did not say. Not to be trusted.
struct BalloonStats {
  // Clause 5.5.6.3, in the order of the tags.
  enum Tag {
    kSwapIn,
    kSwapOut,
    kMajorFaults,
    kMinorFaults,
    kFree,
    kTotal,
    kAvailable,
    kCaches,
    kHugePages,
    kHugeFailures
  };
  std::array<std::optional<uint64_t>, 10> values;
  const std::optional<uint64_t>& operator[](Tag tag) const { return values[tag]; }
};

class BalloonDevice final : public QueueDevice {
 public:
  ~BalloonDevice() override;

  /// Any thread. What the guest shall give; it does so when it can. Whole pages of 4 KiB.
  void set_target_bytes(uint64_t bytes);
  /// What the guest says it has given.
  uint64_t actual_bytes() const { return uint64_t{actual_pages_.load()} * kPage; }
  /// Bytes that were given back to the host as free so far, again and again the same ones counted each time.
  uint64_t reported_bytes() const { return reported_bytes_.load(); }
  /// Asks the guest for fresh statistics, which come when it answers.
  void request_stats();
  std::optional<BalloonStats> stats() const;

  uint32_t id() const override { return 5; }
  uint64_t features() const override;
  std::vector<uint16_t> queue_sizes() const override { return {128, 128, 16, 64}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override;
  void write_config(uint32_t offset, std::span<const std::byte> in) override;

  static constexpr uint64_t kPage = 4096;

 private:
  enum class Role { kInflate, kDeflate, kStats, kReporting, kNone };

  std::string_view kind() const override { return "balloon"; }
  Result<void> on_activate() override;
  void on_deactivate() override;
  void on_queue(size_t queue) override { waiting_[queue] = true; }
  void on_event(size_t lane, uint64_t key, uint32_t events) override;
  bool after_events(size_t lane) override;

  Role role_of(size_t queue) const;
  bool serve(size_t index);
  void inflate(Queue* queue, Chain* chain);
  void take_stats(Queue* queue, Chain* chain);
  void report(Queue* queue, Chain* chain);
  bool give_back(std::span<std::byte> memory) const;

  std::atomic<uint32_t> target_pages_ = 0, actual_pages_ = 0;
  std::atomic<uint64_t> reported_bytes_ = 0;
  std::array<bool, 4> waiting_{};
  UniqueFd stats_wanted_;
  std::optional<uint16_t> stats_chain_;  // the driver's, held until somebody asks
  bool stats_owed_ = false;
  mutable std::mutex mutex_;  // of what follows
  std::optional<BalloonStats> stats_;
  std::function<void()> tell_guest_;
};

}  // namespace hull::vmm
