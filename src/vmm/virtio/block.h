#pragma once
// virtio-blk (virtio 1.2 clause 5.2): a disk of one or several regular files that follow one another. Requests run
// asynchronously through io_uring, or one after the other where the host has none. A request is carried out piece by
// piece where it spans files; what a guest asks for beyond the disk, or of a read-only one, ends in an error for the
// guest and is never tried.

#include <memory>
#include <string>
#include <vector>

#include "vmm/machine_config.h"
#include "vmm/virtio/io_ring.h"
#include "vmm/virtio/queue_device.h"
#include "vmm/virtio/rate_limiter.h"

namespace hull::vmm {

/// Clause 5.2.4, up to write_zeroes_may_unmap and its padding.
struct BlockConfig {
  uint64_t capacity = 0;  ///< sectors of 512 bytes
  uint32_t size_max = 0;
  uint32_t seg_max = 0;
  uint16_t cylinders = 0;
  uint8_t heads = 0, sectors = 0;
  uint32_t block_size = 512;
  uint8_t physical_block_exponent = 3, alignment_offset = 0;
  uint16_t min_io_blocks = 1;
  uint32_t optimal_io_blocks = 0;
  uint8_t write_back = 0, unused = 0;
  uint16_t queues = 1;
  uint32_t discard_max_sectors = 0, discard_max_ranges = 0, discard_alignment = 0;
  uint32_t zeroes_max_sectors = 0, zeroes_max_ranges = 0;
  uint8_t zeroes_may_unmap = 0;
  uint8_t padding[3] = {};
} __attribute__((packed));
static_assert(sizeof(BlockConfig) == 60);

class BlockDevice final : public QueueDevice {
 public:
  /// How requests are carried out; kAuto takes io_uring where there is one.
  enum class Engine { kAuto, kRing, kSynchronous };

  /// Opens the extents: regular files only (kInvalid), read-only ones O_RDONLY. A file that another machine has for
  /// writing (or has at all, when this one wants to write) is kConflict.
  static Result<std::unique_ptr<BlockDevice>> create(const DiskConfig& config, Engine engine = Engine::kAuto);
  /// The same with files that are open already; `config` names none. Requests run one after the other.
  static Result<std::unique_ptr<BlockDevice>> create(const DiskConfig& config, std::vector<UniqueFd> files);
  ~BlockDevice() override;

  uint32_t id() const override { return 2; }
  uint64_t features() const override;
  std::vector<uint16_t> queue_sizes() const override { return {256}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override;
  uint64_t bytes() const { return bytes_; }
  bool replaceable() const override { return true; }
  bool has_backing() const override { return !extents_.empty(); }
  void remove_backing() override;
  bool accepts_backing_of(const VirtioDevice& other) const override;
  void take_backing(VirtioDevice& other) override;
  bool asynchronous() const { return ring_.valid(); }

 private:
  struct Extent {
    UniqueFd fd;
    uint64_t start = 0, size = 0;
  };
  struct Range {
    uint64_t offset = 0, size = 0;
    bool unmap = false;
  };
  struct Operation {
    enum Kind { kRead, kWrite, kSync, kAllocate };
    Kind kind = kRead;
    int fd = -1;
    uint64_t offset = 0, size = 0;
    int mode = 0;
  };
  struct Request;

  BlockDevice();
  static Result<Extent> open_extent(const std::string& path, bool read_only);
  static Result<Extent> take_extent(UniqueFd file, const std::string& name, bool read_only);
  static Result<std::unique_ptr<BlockDevice>> make(const DiskConfig& config, std::vector<Extent> extents,
                                                   Engine engine);

  std::string_view kind() const override { return "block"; }
  Result<void> on_activate() override;
  void on_deactivate() override;
  void on_queue(size_t queue) override;
  void on_event(size_t lane, uint64_t key, uint32_t events) override;
  bool after_events(size_t lane) override;

  bool take_requests();
  void begin(Request* request);
  void begin_transfer(Request* request, uint64_t sector);
  void begin_ranges(Request* request);
  bool in_disk(uint64_t sector, uint64_t bytes) const;
  /// Carries a request on: operation by operation until it waits for the ring or is finished.
  void drive(Request* request);
  bool prepare(Request* request);
  bool prepare_range(Request* request);
  void submit(const Request& request);
  static int32_t perform(const Request& request);
  bool account(Request* request, int32_t result);
  void finish_request(Request* request, uint8_t status);
  void reap();
  const Extent& extent_at(uint64_t offset) const;

  std::vector<Extent> extents_;
  uint64_t bytes_ = 0;
  bool read_only_ = true;
  std::string serial_;
  RateLimiter limiter_;
  IoRing ring_;
  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<Request*> free_;
  bool waiting_ = false;  // the queue may have more
};

}  // namespace hull::vmm
