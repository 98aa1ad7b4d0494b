// Syscalls that came after libseccomp 2.5.4 (Debian 12).

#include <seccomp.h>

#include "isolation/seccomp_compile.h"

namespace hull::isolation::seccomp_compile {

namespace {

struct NewSyscall {
  std::string_view name;
  uint32_t number;
  uint32_t only_on;  // 0: the same number everywhere, as all new syscalls since Linux 5.1 have it
};
// arch/*/kernel/syscalls/syscall.tbl of Linux 6.18.
constexpr NewSyscall kNewSyscalls[] = {
    {"cachestat", 451, 0},
    {"fchmodat2", 452, 0},
    {"map_shadow_stack", 453, 0},
    {"futex_wake", 454, 0},
    {"futex_wait", 455, 0},
    {"futex_requeue", 456, 0},
    {"statmount", 457, 0},
    {"listmount", 458, 0},
    {"lsm_get_self_attr", 459, 0},
    {"lsm_set_self_attr", 460, 0},
    {"lsm_list_modules", 461, 0},
    {"mseal", 462, 0},
    {"setxattrat", 463, 0},
    {"getxattrat", 464, 0},
    {"listxattrat", 465, 0},
    {"removexattrat", 466, 0},
    {"open_tree_attr", 467, 0},
    {"file_getattr", 468, 0},
    {"file_setattr", 469, 0},
    {"uretprobe", 335, SCMP_ARCH_X86_64},
    {"uprobe", 336, SCMP_ARCH_X86_64},
    {"riscv_hwprobe", 258, SCMP_ARCH_RISCV64},
};

const NewSyscall* find(std::string_view name) {
  for (const NewSyscall& entry : kNewSyscalls) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

/// Where an architecture's numbering begins.
uint32_t numbering_base(uint32_t scmp_arch) {
  switch (scmp_arch) {
    case SCMP_ARCH_X32:
      return 0x40000000U;
    case SCMP_ARCH_MIPS:
    case SCMP_ARCH_MIPSEL:
      return 4000;
    case SCMP_ARCH_MIPS64:
    case SCMP_ARCH_MIPSEL64:
      return 5000;
    case SCMP_ARCH_MIPS64N32:
    case SCMP_ARCH_MIPSEL64N32:
      return 6000;
    default:
      return 0;
  }
}

}  // namespace

bool is_newer_than_libseccomp(const std::string& name) {
  return find(name) != nullptr && ::seccomp_syscall_resolve_name(name.c_str()) == __NR_SCMP_ERROR;
}

std::optional<uint32_t> syscall_number(uint32_t scmp_arch, const std::string& name) {
  const int number = ::seccomp_syscall_resolve_name_arch(scmp_arch, name.c_str());
  // Below -1 are libseccomp's own numbers for syscalls that this architecture lacks.
  if (number >= 0) return static_cast<uint32_t>(number);
  if (number != __NR_SCMP_ERROR) return std::nullopt;
  const NewSyscall* entry = find(name);
  if (entry == nullptr || (entry->only_on != 0 && entry->only_on != scmp_arch)) return std::nullopt;
  return entry->number + numbering_base(scmp_arch);
}

}  // namespace hull::isolation::seccomp_compile
