#include "vmm/elf_kernel.h"

#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "vmm/layout.h"

namespace hull::vmm {

namespace {
constexpr uint32_t kPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr uint16_t kMostSegments = 64;
constexpr uint64_t kMostNoteBytes = 64 << 10;

uint64_t align4(uint64_t value) { return (value + 3) & ~3ull; }

struct File {
  const ReadAt& read_at;
  uint64_t bytes;
  const std::string& name;

  bool holds(uint64_t offset, uint64_t size) const { return offset <= bytes && size <= bytes - offset; }
  template <typename T>
  bool load(uint64_t offset, T* out) const {
    return holds(offset, sizeof(T)) && read_at(offset, std::as_writable_bytes(std::span(out, 1)));
  }
  Error bad(const char* what) const { return errorf(ErrorKind::kInvalid, "kernel {}: {}", name, what); }
};

/// The PVH entry in one PT_NOTE piece; nothing when it has none. Padding is to 4 bytes, as Linux writes its notes.
std::optional<uint32_t> find_entry(std::span<const std::byte> notes) {
  uint64_t at = 0;
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;
    std::memcpy(&header, notes.data() + at, sizeof(header));
    at += sizeof(header);
    const uint64_t name_bytes = align4(header.n_namesz), value_bytes = align4(header.n_descsz);
    if (name_bytes > notes.size() - at || value_bytes > notes.size() - at - name_bytes) return std::nullopt;
    const std::byte* name = notes.data() + at;
    const std::byte* value = name + name_bytes;
    if (header.n_type == kPhys32Entry && header.n_namesz == 4 && std::memcmp(name, "Xen", 4) == 0 &&
        (header.n_descsz == 4 || header.n_descsz == 8)) {
      uint64_t entry = 0;
      std::memcpy(&entry, value, header.n_descsz);
      if (entry == 0 || entry > UINT32_MAX) return std::nullopt;
      return static_cast<uint32_t>(entry);
    }
    at += name_bytes + value_bytes;
  }
  return std::nullopt;
}

template <typename Header>
Result<void> read_note(const File& file, const Header& program, ElfKernel* kernel) {
  if (kernel->entry != 0 || program.p_filesz == 0) return {};
  if (program.p_filesz > kMostNoteBytes || !file.holds(program.p_offset, program.p_filesz)) {
    return file.bad("its notes lie outside the file");
  }
  std::vector<std::byte> notes(program.p_filesz);
  if (!file.read_at(program.p_offset, notes)) return file.bad("its notes can't be read");
  if (const std::optional<uint32_t> entry = find_entry(notes)) kernel->entry = *entry;
  return {};
}

template <typename Header>
Result<void> read_segment(const File& file, const Header& program, ElfKernel* kernel) {
  if (program.p_memsz == 0) return {};
  const KernelSegment segment{program.p_offset, program.p_filesz, program.p_paddr, program.p_memsz};
  if (segment.file_bytes > segment.memory_bytes) return file.bad("a segment is longer in the file than in memory");
  if (!file.holds(segment.offset, segment.file_bytes))
    return file.bad("a segment lies outside the file: is it cut off?");
  if (segment.address < layout::kHighMemory || segment.address >= layout::kHoleStart ||
      segment.memory_bytes > layout::kHoleStart - segment.address) {
    return file.bad("a segment lies outside the memory between 1 MiB and 3 GiB");
  }
  for (const KernelSegment& other : kernel->segments) {
    if (segment.address < other.address + other.memory_bytes &&
        other.address < segment.address + segment.memory_bytes) {
      return file.bad("segments overlap");
    }
  }
  kernel->segments.push_back(segment);
  return {};
}

template <typename FileHeader, typename ProgramHeader>
Result<ElfKernel> read_programs(const File& file) {
  FileHeader header;
  if (!file.load(0, &header)) return file.bad("is cut off");
  if (header.e_phentsize != sizeof(ProgramHeader) || header.e_phnum == 0 || header.e_phnum > kMostSegments) {
    return file.bad("its program headers are of no kernel");
  }
  ElfKernel kernel;
  for (uint16_t i = 0; i < header.e_phnum; ++i) {
    ProgramHeader program;
    if (header.e_phoff > file.bytes || !file.load(header.e_phoff + i * sizeof(program), &program)) {
      return file.bad("its program headers lie outside the file: is it cut off?");
    }
    if (program.p_type == PT_NOTE) TRY(read_note(file, program, &kernel));
    if (program.p_type == PT_LOAD) TRY(read_segment(file, program, &kernel));
  }
  if (kernel.segments.empty()) return file.bad("has nothing to load");
  if (kernel.entry == 0) {
    return file.bad("has no PVH entry: it has to be built with CONFIG_PVH, as Debian's cloud kernels are");
  }
  const bool inside = std::any_of(kernel.segments.begin(), kernel.segments.end(), [&](const KernelSegment& segment) {
    return kernel.entry >= segment.address && kernel.entry - segment.address < segment.memory_bytes;
  });
  if (!inside) return file.bad("its PVH entry lies outside of what is loaded");
  return kernel;
}
}  // namespace

uint64_t ElfKernel::end() const {
  uint64_t end = 0;
  for (const KernelSegment& segment : segments) end = std::max(end, segment.address + segment.memory_bytes);
  return end;
}

Result<ElfKernel> read_elf_kernel(const ReadAt& read_at, uint64_t file_bytes, const std::string& name) {
  const File file{read_at, file_bytes, name};
  unsigned char ident[EI_NIDENT] = {};
  if (!file.load(0, &ident)) return file.bad("is shorter than any kernel");
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0) {
    return file.bad("is no kernel: neither an ELF file (vmlinux) nor a bzImage");
  }
  if (ident[EI_DATA] != ELFDATA2LSB) return file.bad("is of another architecture");
  uint16_t machine = 0;
  if (!file.load(offsetof(Elf64_Ehdr, e_machine), &machine)) return file.bad("is cut off");
  if (ident[EI_CLASS] == ELFCLASS64 && machine == EM_X86_64) return read_programs<Elf64_Ehdr, Elf64_Phdr>(file);
  if (ident[EI_CLASS] == ELFCLASS32 && machine == EM_386) return read_programs<Elf32_Ehdr, Elf32_Phdr>(file);
  return file.bad("is of another architecture");
}

namespace {
bool read_fully(int fd, uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t done = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    out = out.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
  return true;
}
}  // namespace

Result<ElfKernel> read_elf_kernel(int fd, const std::string& name) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errnof("kernel {}", name);
  if (!S_ISREG(info.st_mode)) return errorf(ErrorKind::kInvalid, "kernel {} is not a regular file", name);
  return read_elf_kernel([fd](uint64_t offset, std::span<std::byte> out) { return read_fully(fd, offset, out); },
                         static_cast<uint64_t>(info.st_size), name);
}

Result<void> load_kernel(int fd, const ElfKernel& kernel, const GuestMemory& memory, uint64_t end,
                         const std::string& name) {
  for (const KernelSegment& segment : kernel.segments) {
    const std::span<std::byte> room = memory.at(segment.address, segment.memory_bytes);
    if (room.empty() || segment.address + segment.memory_bytes > end) {
      return errorf(ErrorKind::kInvalid,
                    "the guest's memory is too small for kernel {}, which needs {} MiB: ask for more (-m)", name,
                    (kernel.end() >> 20) + 1);
    }
    if (!read_fully(fd, segment.offset, room.first(segment.file_bytes))) {
      return errnof("read kernel {}", name);
    }
  }
  return {};
}

}  // namespace hull::vmm
