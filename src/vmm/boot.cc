#include "vmm/boot.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/error_format.h"
#include "vmm/elf_kernel.h"
#include "vmm/layout.h"
#include "vmm/power.h"

namespace hull::vmm {

namespace {
constexpr uint32_t kStartMagic = 0x336ec578;
constexpr uint32_t kStartVersion = 1;
constexpr uint64_t kPage = 4096;

struct StartInfo {
  uint32_t magic = kStartMagic;
  uint32_t version = kStartVersion;
  uint32_t flags = 0;
  uint32_t modules = 0;
  uint64_t module_list = 0;
  uint64_t command_line = 0;
  uint64_t rsdp = 0;
  uint64_t memory_map = 0;
  uint32_t memory_map_entries = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct Module {
  uint64_t address = 0, size = 0, command_line = 0, reserved = 0;
};

enum : uint32_t { kMapRam = 1, kMapReserved = 2 };

struct MapEntry {
  uint64_t address = 0, size = 0;
  uint32_t type = 0, reserved = 0;
};
static_assert(sizeof(MapEntry) == 24);

Error does_not_fit(const char* what) {
  return errorf(ErrorKind::kInternal, "{} lies outside the guest's memory", what);
}

/// As high as it goes below the hole, so that it is out of the kernel's way.
Result<Module> load_initramfs(const MachineMemory& memory, const BootFiles& files, uint64_t kernel_end) {
  struct stat info{};
  if (::fstat(files.initramfs_fd, &info) != 0) return errnof("initramfs {}", files.initramfs_name);
  if (!S_ISREG(info.st_mode) || info.st_size == 0) {
    return errorf(ErrorKind::kInvalid, "initramfs {} is no file with content", files.initramfs_name);
  }
  Module module;
  module.size = static_cast<uint64_t>(info.st_size);
  const uint64_t end = memory.low_end();
  if (module.size > end || ((end - module.size) & ~(kPage - 1)) < kernel_end) {
    return errorf(
        ErrorKind::kInvalid,
        "the guest's memory of {} MiB is too small for its kernel and the initramfs {} of {} MiB: ask for more "
        "(-m)",
        memory.bytes() >> 20, files.initramfs_name, (module.size >> 20) + 1);
  }
  module.address = (end - module.size) & ~(kPage - 1);
  std::span<std::byte> room = memory.guest().at(module.address, module.size);
  if (room.empty()) return does_not_fit("the initramfs");
  off_t offset = 0;
  while (!room.empty()) {
    const ssize_t done = ::pread(files.initramfs_fd, room.data(), room.size(), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errnof("read initramfs {}", files.initramfs_name);
    if (done == 0) return errorf(ErrorKind::kCorrupt, "initramfs {} ends early", files.initramfs_name);
    room = room.subspan(static_cast<size_t>(done));
    offset += done;
  }
  return module;
}

std::vector<MapEntry> memory_map(const MachineMemory& memory) {
  std::vector<MapEntry> map{
      {0, layout::kEndOfConventional, kMapRam, 0},
      {layout::kAcpi, layout::kHighMemory - layout::kAcpi, kMapReserved, 0},
      {layout::kHighMemory, memory.low_end() - layout::kHighMemory, kMapRam, 0},
  };
  if (memory.end() > layout::kHoleEnd) {
    map.push_back({layout::kHoleEnd, memory.end() - layout::kHoleEnd, kMapRam, 0});
  }
  return map;
}

kvm_segment flat_segment(uint16_t selector, uint8_t type) {
  kvm_segment segment{};
  segment.base = 0;
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.db = 1;
  segment.s = 1;
  segment.g = 1;
  return segment;
}
}  // namespace

Result<uint32_t> load_boot(const MachineMemory& memory, const BootFiles& files) {
  TRY_ASSIGN(const ElfKernel kernel, read_elf_kernel(files.kernel_fd, files.kernel_name));
  TRY(load_kernel(files.kernel_fd, kernel, memory.guest(), memory.low_end(), files.kernel_name));
  StartInfo start;
  start.command_line = layout::kCommandLine;
  start.rsdp = layout::kAcpi;
  if (files.initramfs_fd >= 0) {
    TRY_ASSIGN(const Module module, load_initramfs(memory, files, kernel.end()));
    start.modules = 1;
    start.module_list = layout::kModuleList;
    if (!memory.guest().store(layout::kModuleList, module)) return does_not_fit("the module list");
  }
  const std::vector<MapEntry> map = memory_map(memory);
  start.memory_map = layout::kMemoryMap;
  start.memory_map_entries = static_cast<uint32_t>(map.size());
  const std::span<const char> line(files.command_line.c_str(), files.command_line.size() + 1);
  // Linux with hardware-reduced ACPI and no EFI resets by jumping here: mov dx, port; mov al, value; out dx, al; hlt.
  const uint8_t reset_code[] = {0xba, power::kResetPort & 0xff, power::kResetPort >> 8, 0xb0, power::kResetValue, 0xee,
                                0xf4};
  // The descriptors that the segment registers stand for, in case a kernel loads one again before its own table.
  const uint64_t descriptors[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067};
  if (!memory.guest().write(layout::kMemoryMap, std::as_bytes(std::span(map))) ||
      !memory.guest().write(layout::kCommandLine, std::as_bytes(line)) ||
      !memory.guest().store(layout::kResetVector, reset_code) || !memory.guest().store(layout::kGdt, descriptors) ||
      !memory.guest().store(layout::kStartInfo, start)) {
    return does_not_fit("what the kernel is started with");
  }
  return kernel.entry;
}

Result<void> set_boot_registers(Vcpu& vcpu, uint32_t entry) {
  TRY_ASSIGN(kvm_sregs sregs, vcpu.sregs());
  sregs.cs = flat_segment(0x08, 0xb);
  sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat_segment(0x10, 0x3);
  sregs.tr = {};
  sregs.tr.selector = 0x18;
  sregs.tr.limit = 0x67;
  sregs.tr.type = 0xb;
  sregs.tr.present = 1;
  sregs.gdt.base = layout::kGdt;
  sregs.gdt.limit = 4 * 8 - 1;
  sregs.cr0 = 0x11;  // protected mode, and the bit that is always set
  sregs.cr4 = 0;
  sregs.efer = 0;
  TRY(vcpu.set_sregs(sregs));
  kvm_regs regs{};
  regs.rip = entry;
  regs.rbx = layout::kStartInfo;
  regs.rflags = 2;
  return vcpu.set_regs(regs);
}

}  // namespace hull::vmm
