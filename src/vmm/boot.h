#pragma once
// Starting a kernel through PVH (Xen, docs/misc/pvh.pandoc; xen/include/public/arch-x86/hvm/start_info.h): everything
// that it finds in memory and in the first processor's registers.

#include <cstdint>
#include <string>

#include "base/error.h"
#include "vmm/kvm.h"
#include "vmm/machine_memory.h"

namespace hull::vmm {

struct BootFiles {
  int kernel_fd = -1;     ///< not owned
  int initramfs_fd = -1;  ///< -1: none
  std::string kernel_name, initramfs_name;
  std::string command_line;
};

/// Loads kernel and initramfs and writes start info, memory map and command line. Returns the entry address. The ACPI
/// tables are put at layout::kAcpi by the caller.
Result<uint32_t> load_boot(const MachineMemory& memory, const BootFiles& files);

/// Registers of the first processor at the entry: 32-bit protected mode, flat segments, paging off.
Result<void> set_boot_registers(Vcpu& vcpu, uint32_t entry);

}  // namespace hull::vmm
