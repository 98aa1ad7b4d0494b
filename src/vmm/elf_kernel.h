#pragma once
// An uncompressed kernel (ELF, x86-64 or i386) with a PVH entry: finds the entry and the pieces to load. The file is
// not trusted: every number in it is checked against the file and the guest's memory.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "vmm/guest_memory.h"

namespace hull::vmm {

/// A piece of the kernel: file bytes [offset, offset+file_bytes) go to guest-physical `address`; what is missing up to
/// memory_bytes is zero.
struct KernelSegment {
  uint64_t offset = 0, file_bytes = 0;
  uint64_t address = 0, memory_bytes = 0;
};

struct ElfKernel {
  uint32_t entry = 0;  ///< XEN_ELFNOTE_PHYS32_ENTRY: guest-physical, 32-bit protected mode, paging off
  std::vector<KernelSegment> segments;
  uint64_t end() const;  ///< first address behind all segments
};

/// Fills `out` from the file at `offset`; false when the file ends before.
using ReadAt = std::function<bool(uint64_t offset, std::span<std::byte> out)>;

/// kInvalid for what is no kernel that boots here, with what to do about it; `name` is for messages.
Result<ElfKernel> read_elf_kernel(const ReadAt& read_at, uint64_t file_bytes, const std::string& name);

/// The same from an open file.
Result<ElfKernel> read_elf_kernel(int fd, const std::string& name);

/// Puts the segments into memory that is still all zero. kInvalid when they do not fit between 1 MiB and `end`.
Result<void> load_kernel(int fd, const ElfKernel& kernel, const GuestMemory& memory, uint64_t end,
                         const std::string& name);

}  // namespace hull::vmm
