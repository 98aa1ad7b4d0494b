#pragma once
// Names and numbers shared by the seccomp compiler and its lists. For this room's seccomp*.cc.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "isolation/seccomp.h"

namespace hull::isolation::seccomp_compile {

/// Raised when the compiler's output changes, so that cached programs are made anew.
inline constexpr uint32_t kCompilerVersion = 3;

/// compile_seccomp() before the program is made smaller.
Result<SeccompFilter> compile_plain(const oci::Seccomp& seccomp);

/// The number of a syscall for an architecture (SCMP_ARCH_*): libseccomp's, or Hull's own for syscalls that are newer
/// than the libseccomp that it was built with. Nothing when the architecture has no such syscall.
std::optional<uint32_t> syscall_number(uint32_t scmp_arch, const std::string& name);
/// A syscall that only Hull's own table knows.
bool is_newer_than_libseccomp(const std::string& name);

}  // namespace hull::isolation::seccomp_compile
