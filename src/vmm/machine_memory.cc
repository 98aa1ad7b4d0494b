#include "vmm/machine_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "vmm/layout.h"

namespace hull::vmm {

namespace {
constexpr uint64_t kHugePage = 2ull << 20;

Result<UniqueFd> make_memfd(const MemoryOptions& options) {
  const unsigned huge = options.huge_pages ? MFD_HUGETLB | MFD_HUGE_2MB : 0;
  UniqueFd fd(::memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge));
  if (!fd) {
    if (options.huge_pages) return errnof("make a memory file of huge pages; does this kernel have hugetlbfs?");
    return errnof("make a memory file");
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(options.bytes)) != 0) {
    return errnof("size the guest's memory to {} bytes", options.bytes);
  }
  // A back end that shares the file must not be able to cut it off under us.
  ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return fd;
}
}  // namespace

uint64_t host_memory_bytes() {
  struct sysinfo info{};
  if (::sysinfo(&info) != 0) return 0;
  return static_cast<uint64_t>(info.totalram) * info.mem_unit;
}

MachineMemory::MachineMemory(UniqueFd fd, std::byte* base, uint64_t bytes)
    : fd_(std::move(fd)), base_(base), bytes_(bytes) {
  const uint64_t low = std::min(bytes, layout::kHoleStart);
  std::vector<MemoryRegion> regions{{0, low, base, fd_.get(), 0}};
  if (bytes > low) regions.push_back({layout::kHoleEnd, bytes - low, base + low, fd_.get(), low});
  guest_ = GuestMemory(std::move(regions));
}

Result<MachineMemory> MachineMemory::create(const MemoryOptions& options) {
  if (options.bytes > host_memory_bytes()) {
    return errorf(ErrorKind::kNoSpace,
                  "the guest is to have {} MiB of memory, but this host has only {} MiB: ask for less (-m)",
                  options.bytes >> 20, host_memory_bytes() >> 20);
  }
  if (options.huge_pages && options.bytes % kHugePage != 0) {
    return errorf(ErrorKind::kInvalid, "with huge pages a guest's memory has to be a multiple of 2 MiB, not {} bytes",
                  options.bytes);
  }
  UniqueFd fd;
  // Private memory is anonymous: the kernel gives it transparent huge pages when asked, which it seldom does for files.
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (options.shared || options.huge_pages) {
    TRY_ASSIGN(fd, make_memfd(options));
    flags = MAP_SHARED | MAP_NORESERVE;
    // Huge pages that the host lacks are to be missed now, not by a signal while the guest runs.
    if (options.huge_pages) flags &= ~MAP_NORESERVE;
  }
  // The alignment lets huge pages of the guest be huge pages of the host.
  const size_t span = options.bytes + kHugePage;
  void* reserved = ::mmap(nullptr, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return errnof("reserve {} bytes of address space for the guest", span);
  auto* start = static_cast<std::byte*>(reserved);
  const uint64_t skip = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  if (skip > 0) ::munmap(start, skip);
  ::munmap(start + skip + options.bytes, kHugePage - skip);
  std::byte* base = start + skip;
  if (::mmap(base, options.bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd.get(), 0) == MAP_FAILED) {
    const int error = errno;
    ::munmap(base, options.bytes);
    if (options.huge_pages) {
      return errorf(ErrorKind::kNoSpace,
                    "the host has not {} free huge pages of 2 MiB: reserve some in /proc/sys/vm/nr_hugepages",
                    options.bytes / kHugePage);
    }
    return Error::from_errno(error, "map the guest's memory");
  }
  if (!options.huge_pages) ::madvise(base, options.bytes, MADV_HUGEPAGE);
  ::madvise(base, options.bytes, MADV_DONTDUMP);
  return MachineMemory(std::move(fd), base, options.bytes);
}

void MachineMemory::add_read_only(uint64_t guest_address, std::span<const std::byte> bytes) {
  std::vector<MemoryRegion> regions(guest_.regions().begin(), guest_.regions().end());
  MemoryRegion region{guest_address, bytes.size(), const_cast<std::byte*>(bytes.data()), -1, 0};
  region.read_only = true;
  regions.push_back(region);
  guest_ = GuestMemory(std::move(regions));
}

MachineMemory::~MachineMemory() {
  if (base_ != nullptr) ::munmap(base_, bytes_);
}

uint64_t MachineMemory::low_end() const { return std::min(bytes_, layout::kHoleStart); }

uint64_t MachineMemory::end() const {
  return bytes_ <= layout::kHoleStart ? bytes_ : bytes_ - layout::kHoleStart + layout::kHoleEnd;
}

}  // namespace hull::vmm
