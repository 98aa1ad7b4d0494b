#pragma once
// The bytes of one blob from a registry as a ByteSource: in order, through cut connections, redirects and expired
// tokens, large ones over several ranged requests at once.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "oci/image_spec.h"
#include "store/layer/byte_source.h"
#include "store/registry/client.h"

namespace hull::store {

/// Told how many bytes have arrived and not been taken back; called from any thread, often.
using ByteCounter = std::function<void(uint64_t total)>;

class BlobSource final : public ByteSource {
 public:
  BlobSource(std::shared_ptr<RegistrySession> session, std::string repository, oci::Descriptor descriptor,
             ByteCounter counter, std::shared_ptr<const std::atomic<bool>> given_up = nullptr);
  ~BlobSource() override;
  /// The descriptor's size is enforced here; its digest is for the reader to check. kConflict once *given_up is true.
  Result<size_t> read(std::span<std::byte> into) override;

  /// Connections that were cut and taken up again.
  int resumed() const { return resumed_; }

  struct Tuning {
    uint64_t segment = 8 << 20;      ///< bytes of one ranged request
    uint64_t split_from = 24 << 20;  ///< blobs from this size on are fetched in ranges
    size_t buffer = 8 << 20;         ///< bytes that may wait for the reader, per request
  };
  static Tuning& tuning();  ///< tests make it small

 private:
  struct Part;
  class Sink;
  /// Begins requests until as many run as may.
  Result<void> fill(std::unique_lock<std::mutex>& lock);
  Result<void> begin(const std::shared_ptr<Part>& part, std::unique_lock<std::mutex>& lock);
  /// Decides about a part whose request has ended before its end.
  Result<void> handle_failure(const std::shared_ptr<Part>& part, std::unique_lock<std::mutex>& lock);
  /// Gives up all but the first `count` parts; the last of these goes to the end of the blob.
  void keep_parts(size_t count);
  /// A request for a range that is answered with the whole blob makes the parts behind it superfluous.
  void drop_behind_whole_answer();
  void stop_all(std::unique_lock<std::mutex>& lock);

  const std::shared_ptr<RegistrySession> session_;
  const std::string repository_;
  const oci::Descriptor descriptor_;
  const ByteCounter counter_;
  const std::shared_ptr<const std::atomic<bool>> given_up_;
  const std::string scope_;
  const uint64_t size_;

  struct Shared;  // what the network thread sees; outlives this object while a transfer runs
  std::shared_ptr<Shared> shared_;
  std::deque<std::shared_ptr<Part>> parts_;  // in order; the first one is being read
  uint64_t next_begin_ = 0;                  // where the next part begins
  enum class Ranges { kUnknown, kYes, kNo } ranges_ = Ranges::kUnknown;
  int failures_ = 0;  // in a row, without progress
  int total_failures_ = 0;
  int resumed_ = 0;
  uint64_t position_ = 0;  // bytes given to the reader
  uint64_t position_at_failure_ = 0;
};

}  // namespace hull::store
