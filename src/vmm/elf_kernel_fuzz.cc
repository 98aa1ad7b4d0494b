// Any bytes as a kernel: what is accepted lies within the file and the memory that a guest can have.
#include <cstdlib>
#include <cstring>

#include "vmm/elf_kernel.h"
#include "vmm/layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::vmm;
  const auto read_at = [&](uint64_t offset, std::span<std::byte> out) {
    if (offset > size || out.size() > size - offset) std::abort();  // the reader has to check before
    std::memcpy(out.data(), data + offset, out.size());
    return true;
  };
  const hull::Result<ElfKernel> kernel = read_elf_kernel(read_at, size, "fuzz");
  if (!kernel.ok()) return 0;
  for (const KernelSegment& segment : kernel->segments) {
    if (segment.offset > size || segment.file_bytes > size - segment.offset) std::abort();
    if (segment.address < layout::kHighMemory) std::abort();
  }
  if (kernel->end() > layout::kHoleStart) std::abort();
  return 0;
}
