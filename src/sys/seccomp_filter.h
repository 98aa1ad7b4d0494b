#pragma once
// System-call filters (seccomp, BPF) assembled by hand: a list of what a thread may call, everything else ends the
// process. One list for each kind of thread.

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::sys {

/// One system call that is allowed, or answered with an errno.
struct SyscallRule {
  enum class When {
    kAlways,
    kArgumentIs,       ///< the argument's low 32 bits are one of `values`
    kArgumentHasNone,  ///< the argument's low 32 bits have none of the bits of values[0]
  };
  int number = 0;
  When when = When::kAlways;
  unsigned argument = 0;         ///< 0 to 5
  std::vector<uint32_t> values;  ///< at most 64
  int error = 0;                 ///< not allowed but answered with this errno
};

/// The program: rules are looked through in their order, so what is called most comes first. Other architectures and
/// what no rule names are answered with SECCOMP_RET_KILL_PROCESS.
std::vector<sock_filter> assemble_filter(std::span<const SyscallRule> rules);

/// For the calling thread and what it starts from now on. Needs no_new_privs or CAP_SYS_ADMIN.
Result<void> install_filter(std::span<const sock_filter> program);

}  // namespace hull::sys
