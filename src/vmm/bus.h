#pragma once
// Who answers at which I/O port or device address.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hull::vmm {

/// A device in port or memory space. Offsets are from its first address; an access is 1, 2, 4 or 8 bytes, lies within
/// the device, and may come from any virtual processor at any time.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  virtual void read(uint64_t offset, std::span<std::byte> out) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> in) = 0;
};

/// Does not own its devices. Complete before the first access.
class Bus {
 public:
  /// False when the range is taken.
  bool add(uint64_t base, uint64_t size, BusDevice* device);
  /// Where nothing answers, reads give ones.
  void read(uint64_t address, std::span<std::byte> out) const;
  /// Where nothing answers, writes are lost.
  void write(uint64_t address, std::span<const std::byte> in) const;

 private:
  struct Range {
    uint64_t base, size;
    BusDevice* device;
  };
  const Range* find(uint64_t address, uint64_t size) const;
  std::vector<Range> ranges_;  // sorted by base
};

}  // namespace hull::vmm
