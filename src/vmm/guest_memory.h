#pragma once
// The guest's physical memory as the devices see it: a few regions, every access bounded. An address or length that a
// guest chose is checked here and nowhere else; no code of a device holds a pointer that it made by adding.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace hull::vmm {

/// One contiguous piece of guest-physical memory that is mapped here.
struct MemoryRegion {
  uint64_t guest_address = 0;
  uint64_t size = 0;
  std::byte* host = nullptr;  ///< mapping of `size` bytes; owned by who made the GuestMemory
  int fd = -1;                ///< the memfd behind it, for vhost-user; not owned
  uint64_t fd_offset = 0;
  bool read_only = false;  ///< persistent memory: a device may read from it, never write
};

/// Does not own the mappings. Regions are sorted and do not overlap; they do not change while devices run.
class GuestMemory {
 public:
  GuestMemory() = default;
  explicit GuestMemory(std::vector<MemoryRegion> regions) : regions_(std::move(regions)) {}

  std::span<const MemoryRegion> regions() const { return regions_; }

  /// The bytes [address, address+size) when they lie in one region, else an empty span. A size of 0 is empty too.
  /// The guest may change them at any time: read what decides something once, with read() or load().
  std::span<std::byte> at(uint64_t address, uint64_t size) const { return find(address, size, true); }
  /// The same, also where nothing can be written.
  std::span<std::byte> readable_at(uint64_t address, uint64_t size) const { return find(address, size, false); }
  /// Copies out, also across neighbouring regions. False (and nothing promised of `out`) when any byte is not memory.
  bool read(uint64_t address, std::span<std::byte> out) const { return copy(address, out.size(), out.data(), nullptr); }
  /// Copies in. False when any byte is not memory; what came before it is written.
  bool write(uint64_t address, std::span<const std::byte> in) const {
    return copy(address, in.size(), nullptr, in.data());
  }
  /// One plain struct, copied once.
  template <typename T>
  bool load(uint64_t address, T* out) const {
    return read(address, std::as_writable_bytes(std::span(out, 1)));
  }
  template <typename T>
  bool store(uint64_t address, const T& value) const {
    return write(address, std::as_bytes(std::span(&value, 1)));
  }

 private:
  std::span<std::byte> find(uint64_t address, uint64_t size, bool writable) const {
    for (const MemoryRegion& region : regions_) {
      if (address < region.guest_address || (writable && region.read_only)) continue;
      const uint64_t offset = address - region.guest_address;
      if (offset >= region.size) continue;
      if (size == 0 || size > region.size - offset) return {};
      return {region.host + offset, static_cast<size_t>(size)};
    }
    return {};
  }
  bool copy(uint64_t address, uint64_t size, std::byte* out, const std::byte* in) const {
    while (size > 0) {
      const MemoryRegion* region = nullptr;
      for (const MemoryRegion& candidate : regions_) {
        if (address >= candidate.guest_address && address - candidate.guest_address < candidate.size) {
          region = &candidate;
        }
      }
      if (region == nullptr || (in != nullptr && region->read_only)) return false;
      const uint64_t offset = address - region->guest_address;
      const uint64_t part = size < region->size - offset ? size : region->size - offset;
      if (out != nullptr) {
        std::memcpy(out, region->host + offset, part);
        out += part;
      } else {
        std::memcpy(region->host + offset, in, part);
        in += part;
      }
      address += part;
      size -= part;
    }
    // What was copied is what counts: the compiler may not look at the guest's bytes again.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return true;
  }

  std::vector<MemoryRegion> regions_;
};

}  // namespace hull::vmm
