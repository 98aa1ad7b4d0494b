#pragma once
// The clock of an MC146818 at ports 0x70 and 0x71: the host's time in UTC, read-only, without alarms. A guest sets its
// clock from it at boot.

#include <atomic>
#include <cstdint>

#include "vmm/bus.h"

namespace hull::vmm {

class CmosClock : public BusDevice {
 public:
  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> in) override;

  /// A register as it reads at `seconds` since 1970 (UTC), in BCD and 24-hour form.
  static uint8_t value(uint8_t index, int64_t seconds);

 private:
  std::atomic<uint8_t> index_ = 0;
};

}  // namespace hull::vmm
