#pragma once
// virtio-net (virtio 1.2 clause 5.1) on taps: checksum and segmentation offloads pass through as the tap's own header,
// which is virtio's; receive buffers are merged when the driver can; one thread for each queue pair, each with a tap
// queue of its own.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "vmm/machine_config.h"
#include "vmm/virtio/queue_device.h"
#include "vmm/virtio/rate_limiter.h"

namespace hull::vmm {

using MacAddress = std::array<uint8_t, 6>;

/// "02:42:ac:11:00:02"; a group address or anything else is kInvalid.
Result<MacAddress> parse_mac(std::string_view text);

/// A tap of this name in the current network namespace, made when it is not there, as NetConfig wants it. `several`:
/// it may be opened again for further queue pairs.
Result<UniqueFd> open_tap(const std::string& name, bool several);

class NetDevice final : public QueueDevice {
 public:
  /// Takes over config.tap_fd and config.further_tap_fds, which must be taps with IFF_VNET_HDR and IFF_NO_PI.
  static Result<std::unique_ptr<NetDevice>> create(const NetConfig& config);
  /// The same with taps that are nobody else's; `config` names none.
  static Result<std::unique_ptr<NetDevice>> create(const NetConfig& config, std::vector<UniqueFd> taps);
  /// On any descriptors that carry one frame for each read and write, behind a 12-byte virtio header.
  NetDevice(std::vector<UniqueFd> ports, const MacAddress& mac);
  ~NetDevice() override;

  uint32_t id() const override { return 1; }
  uint64_t features() const override;
  std::vector<uint16_t> queue_sizes() const override;
  void read_config(uint32_t offset, std::span<std::byte> out) const override;
  bool replaceable() const override { return true; }
  bool has_backing() const override { return !removed_; }
  void remove_backing() override;
  bool accepts_backing_of(const VirtioDevice& other) const override;
  void take_backing(VirtioDevice& other) override;

  static constexpr size_t kHeaderBytes = 12;
  /// A frame of segmentation offload with its header, at most.
  static constexpr size_t kLargestFrame = 65536 + 18 + kHeaderBytes;
  static constexpr size_t kMostPairs = 8;

 private:
  struct Pair {
    UniqueFd port;
    RateLimiter receive_limit, transmit_limit;
    bool port_readable = false, transmit_waiting = false;
    std::vector<Chain> staged;  // popped from the receive queue, in order from `first` on, not used yet
    size_t first = 0, count = 0;
    uint64_t staged_bytes = 0;
    std::vector<iovec> parts;
    std::vector<std::byte> overflow;
    Chain chain;
  };

  std::string_view kind() const override { return "net"; }
  size_t lanes() const override { return pairs_.size(); }
  size_t lane_of(size_t queue) const override;
  Result<void> on_activate() override;
  void on_deactivate() override;
  void on_queue(size_t queue) override;
  void on_event(size_t lane, uint64_t key, uint32_t events) override;
  bool after_events(size_t lane) override;

  size_t control_queue() const;
  Result<void> set_offloads(int port) const;
  bool stage_buffers(Pair* pair, Queue* receive);
  bool receive(Pair* pair, Queue* receive);
  bool receive_frame(Pair* pair, Queue* receive, bool* more);
  void give_frame(Pair* pair, Queue* receive, uint64_t bytes);
  bool transmit(Pair* pair, Queue* transmit);
  void answer_control();
  bool merges() const;

  std::vector<std::unique_ptr<Pair>> pairs_;
  MacAddress mac_{};
  bool taps_ = false, removed_ = false;
  bool control_waiting_ = false;
};

}  // namespace hull::vmm
