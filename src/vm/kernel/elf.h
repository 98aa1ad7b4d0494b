#pragma once
// What the installer needs to know of ELF files (64-bit, little-endian, x86-64): whether a vmlinux has a PVH entry,
// what a module says of itself, and a module without what a guest never reads. Every offset of a file is checked; the
// files may come from anywhere.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vm {

inline constexpr size_t kMostVmlinuxBytes = 512u << 20;
inline constexpr size_t kMostModuleBytes = 64u << 20;

struct VmlinuxInfo {
  uint32_t pvh_entry = 0;  ///< of the note XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h, type 18)
  uint64_t end = 0;        ///< bytes of the file that belong to the ELF file; relocations may be appended to it
  std::string version;     ///< from its banner "Linux version 6.1.0-56-cloud-amd64 (...": "" when there is none
};
/// kInvalid when it is no x86-64 ELF executable or damaged; kUnsupported when it has no PVH entry, with what to do.
Result<VmlinuxInfo> inspect_vmlinux(std::string_view file);

/// From a module's section .modinfo.
struct ModuleInfo {
  std::string name;                  ///< as the kernel calls it, with underscores
  std::vector<std::string> depends;  ///< must be loaded before it
  std::vector<std::string> soft;     ///< should be loaded before it when they exist ("softdep=pre: ...")
  std::string vermagic;              ///< "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "
};
Result<ModuleInfo> inspect_module(std::string_view file);

/// The module without debug sections, and without the signature appended to it when `drop_signature`: checking it costs
/// a guest milliseconds, and the initramfs that holds the module is as trusted as the kernel itself.
Result<std::string> slim_module(std::string_view file, bool drop_signature);

/// "virtio-rng" and "virtio_rng" are the same module: with underscores.
std::string module_name(std::string_view name);

}  // namespace hull::vm
