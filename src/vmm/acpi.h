#pragma once
// The ACPI tables (ACPI 6.4, chapter 5) that tell a guest what this machine consists of. The machine is
// "hardware-reduced" (3.11.1): no PIC, no PIT, no power management timer; a sleep control register, a reset register,
// and a power button behind a generic event device.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/error.h"

namespace hull::vmm {

/// A virtio-mmio device as ACPI announces it (LNRO0005).
struct AcpiVirtio {
  uint64_t window = 0;  ///< below 4 GiB, layout::kVirtioWindowSize bytes
  uint32_t irq = 0;
};

struct AcpiMachine {
  uint32_t vcpus = 1;
  std::vector<AcpiVirtio> virtio;
  std::vector<AcpiVirtio> slots;  ///< for devices that may come while the machine runs; at most layout::kMostSlots
};

/// The bytes to put at guest-physical `address` (16-byte aligned): RSDP first, then the tables. kNoSpace when they take
/// more than `most` bytes.
Result<std::vector<std::byte>> make_acpi_tables(const AcpiMachine& machine, uint64_t address, size_t most);

}  // namespace hull::vmm
