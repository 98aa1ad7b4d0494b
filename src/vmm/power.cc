#include "vmm/power.h"

#include <cstring>

namespace hull::vmm {

void PowerRegisters::read(uint64_t, std::span<std::byte> out) { std::memset(out.data(), 0, out.size()); }

void PowerRegisters::write(uint64_t offset, std::span<const std::byte> in) {
  const auto value = std::to_integer<uint8_t>(in[0]);
  const uint64_t port = layout::kPowerPort + offset;
  if (port == power::kSleepControlPort && value == power::kPowerOffValue) stop_->stop(StopReason::kPowerOff);
  if (port == power::kResetPort && value == power::kResetValue) stop_->stop(StopReason::kReset);
}

namespace {
constexpr uint64_t kCommandOffset = 4;
constexpr uint8_t kPulseReset = 0xfe;
}  // namespace

void KeyboardController::read(uint64_t, std::span<std::byte> out) { std::memset(out.data(), 0, out.size()); }

void KeyboardController::write(uint64_t offset, std::span<const std::byte> in) {
  if (offset == kCommandOffset && std::to_integer<uint8_t>(in[0]) == kPulseReset) stop_->stop(StopReason::kReset);
}

}  // namespace hull::vmm
