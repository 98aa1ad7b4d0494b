#pragma once
// How a guest switches itself off or resets itself: ACPI's sleep and reset registers, and the keyboard controller's
// reset line, which old code pulls.

#include <cstdint>

#include "vmm/bus.h"
#include "vmm/layout.h"
#include "vmm/stop.h"

namespace hull::vmm {

namespace power {
inline constexpr uint16_t kSleepControlPort = layout::kPowerPort;
inline constexpr uint16_t kSleepStatusPort = layout::kPowerPort + 1;
inline constexpr uint16_t kResetPort = layout::kPowerPort + 2;
inline constexpr uint16_t kPorts = 3;
inline constexpr uint8_t kResetValue = 0x52;
inline constexpr uint8_t kSleepTypeOff = 5;
/// Sleep control register (ACPI 6.4, 4.8.3.7): bits 4:2 the type, bit 5 the trigger.
inline constexpr uint8_t kPowerOffValue = (kSleepTypeOff << 2) | 0x20;
}  // namespace power

/// The three ports from layout::kPowerPort on. A write that ends the machine makes the writer's processor leave its
/// loop, so nothing of the guest runs after it.
class PowerRegisters : public BusDevice {
 public:
  explicit PowerRegisters(StopControl* stop) : stop_(stop) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

 private:
  StopControl* stop_;
};

/// Ports 0x60 to 0x64 of a keyboard controller without keyboard: status reads as idle, command 0xFE resets.
class KeyboardController : public BusDevice {
 public:
  explicit KeyboardController(StopControl* stop) : stop_(stop) {}
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

 private:
  StopControl* stop_;
};

}  // namespace hull::vmm
