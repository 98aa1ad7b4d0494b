#pragma once
// linux.seccomp -> a BPF program, compiled by libseccomp once and kept on disk.

#include <linux/filter.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

/// A program ready for seccomp(SECCOMP_SET_MODE_FILTER, flags, &fprog). The child after clone needs only program() and
/// flags; the vector must stay alive until then.
struct SeccompFilter {
  std::vector<sock_filter> program;  ///< empty: no filter is to be installed
  uint32_t flags = 0;                ///< SECCOMP_FILTER_FLAG_*; NEW_LISTENER is set when needs_listener
  bool needs_listener = false;       ///< a rule notifies: seccomp(2) returns the listener's descriptor

  /// Points into `program`; valid as long as it is not changed.
  sock_fprog fprog() { return {static_cast<unsigned short>(program.size()), program.data()}; }
};

/// Compiles. Names of syscalls that neither libseccomp nor Hull knows are ignored, as the specification's other
/// runtimes do; unknown actions, operators, flags and architectures are kInvalid; what the kernel lacks (flags, notify
/// before Linux 5.0) is kUnsupported. With a default action of errno or kill, syscalls that are newer than every
/// syscall named by the profile answer ENOSYS, so that C libraries fall back (what runc does since 1.0.0-rc93).
Result<SeccompFilter> compile_seccomp(const oci::Seccomp& seccomp);

/// The same through a cache: `cache_dir` (made 0700 when absent; "" means no cache) holds one file for each filter,
/// named by a hash of the section, Hull's compiler version, libseccomp's version and the architecture. The file is
/// checked (owner, mode, magic, length, checksum); a bad one is replaced. A cache that can't be written is no failure.
Result<SeccompFilter> load_seccomp(const oci::Seccomp& seccomp, const std::string& cache_dir);

/// The effect of Docker's default profile for a container with these capabilities (bit mask of the bounding set), on
/// the native architecture and its compat ones. See seccomp_default.cc for where the facts come from.
oci::Seccomp default_seccomp(uint64_t capabilities);

/// What `features` prints.
std::vector<std::string> seccomp_actions();
std::vector<std::string> seccomp_operators();
std::vector<std::string> seccomp_architectures();
std::vector<std::string> seccomp_known_flags();
/// Those of the flags that the running kernel takes.
std::vector<std::string> seccomp_supported_flags();

}  // namespace hull::isolation
