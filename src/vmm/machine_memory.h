#pragma once
// The memory that a guest has: mapped here, given to KVM, and seen by devices as GuestMemory.

#include <cstdint>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/guest_memory.h"

namespace hull::vmm {

struct MemoryOptions {
  uint64_t bytes = 0;       ///< a multiple of 4 KiB; with huge_pages of 2 MiB
  bool shared = false;      ///< other processes (vhost-user back ends) map it too: memfd, MAP_SHARED
  bool huge_pages = false;  ///< from the host's reserved huge pages (2 MiB) instead of transparent ones
};

/// Owns the mapping. Below the hole lies what fits under 3 GiB, the rest starts at 4 GiB.
class MachineMemory {
 public:
  /// kNoSpace when the host has not as much memory as `bytes` (or not as many huge pages), kInvalid for an odd size.
  static Result<MachineMemory> create(const MemoryOptions& options);
  MachineMemory(MachineMemory&& other) noexcept
      : fd_(std::move(other.fd_)),
        base_(std::exchange(other.base_, nullptr)),
        bytes_(other.bytes_),
        guest_(std::move(other.guest_)) {}
  MachineMemory& operator=(MachineMemory&&) = delete;
  ~MachineMemory();

  const GuestMemory& guest() const { return guest_; }
  /// Something else that devices can read at an address of the guest; it is mapped elsewhere and lives as long. Before
  /// devices run.
  void add_read_only(uint64_t guest_address, std::span<const std::byte> bytes);
  uint64_t bytes() const { return bytes_; }
  /// End of the memory below the hole, and of all memory, as guest-physical addresses.
  uint64_t low_end() const;
  uint64_t end() const;

 private:
  MachineMemory(UniqueFd fd, std::byte* base, uint64_t bytes);
  UniqueFd fd_;
  std::byte* base_ = nullptr;
  uint64_t bytes_ = 0;
  GuestMemory guest_;
};

/// How much memory the host has in all, in bytes.
uint64_t host_memory_bytes();

}  // namespace hull::vmm
