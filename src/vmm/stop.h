#pragma once
// How a machine ends, and who is told first.

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

enum class StopReason : uint8_t {
  kNone,
  kPowerOff,     ///< the guest switched itself off
  kReset,        ///< the guest reset itself
  kTripleFault,  ///< the guest's processor gave up: a crash, or the crudest way to reset
  kRequest,      ///< stopped from outside (signal or API)
  kFailure,      ///< KVM or a device could not go on; detail says why
};
std::string_view to_string(StopReason reason);

/// The first reason wins. Any thread.
class StopControl {
 public:
  static Result<StopControl> create();
  void stop(StopReason reason, std::string detail = {});
  StopReason reason() const { return reason_->load(std::memory_order_acquire); }
  const std::string& detail() const { return *detail_; }
  /// An eventfd that becomes readable when stop() was called.
  int fd() const { return event_.get(); }

 private:
  StopControl(UniqueFd event)
      : event_(std::move(event)),
        reason_(std::make_unique<std::atomic<StopReason>>(StopReason::kNone)),
        detail_(std::make_unique<std::string>()) {}
  UniqueFd event_;
  std::unique_ptr<std::atomic<StopReason>> reason_;
  std::unique_ptr<std::string> detail_;  // written by who set the reason, before fd() becomes readable
};

}  // namespace hull::vmm
