#include "vmm/stop.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace hull::vmm {

std::string_view to_string(StopReason reason) {
  switch (reason) {
    case StopReason::kNone:
      return "running";
    case StopReason::kPowerOff:
      return "power-off";
    case StopReason::kReset:
      return "reset";
    case StopReason::kTripleFault:
      return "triple-fault";
    case StopReason::kRequest:
      return "request";
    case StopReason::kFailure:
      return "failure";
  }
  return "?";
}

Result<StopControl> StopControl::create() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return errno_error("make an eventfd");
  return StopControl(std::move(event));
}

void StopControl::stop(StopReason reason, std::string detail) {
  StopReason none = StopReason::kNone;
  if (!reason_->compare_exchange_strong(none, reason, std::memory_order_acq_rel)) return;
  *detail_ = std::move(detail);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));
}

}  // namespace hull::vmm
