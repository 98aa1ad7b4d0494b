#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hull::store {

enum class LayerState {
  kPending,      ///< "Pulling fs layer"
  kWaiting,      ///< another process fetches it
  kDownloading,  ///< bytes follow
  kDone,         ///< "Pull complete"
  kExists,       ///< was in the store
  kPreparing,    ///< a push looks whether the registry has it
  kPushing,      ///< bytes follow
  kPushed,
  kMounted,       ///< taken from another repository of the registry
  kRemoteExists,  ///< the registry had it
};

/// Told what a transfer does. Called from several threads at once.
class TransferProgress {
 public:
  TransferProgress() = default;
  TransferProgress(const TransferProgress&) = delete;
  TransferProgress& operator=(const TransferProgress&) = delete;
  virtual ~TransferProgress() = default;
  /// A line of its own, as "latest: Pulling from library/busybox".
  virtual void line(std::string_view text) = 0;
  /// `id` names the layer for people: 12 hex digits.
  virtual void layer(const std::string& id, LayerState state) = 0;
  /// Bytes of `total` (0: unknown) that have moved.
  virtual void bytes(const std::string& id, uint64_t done, uint64_t total) = 0;
};

}  // namespace hull::store
