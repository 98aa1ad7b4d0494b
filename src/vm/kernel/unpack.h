#pragma once
// Compressed kernels for hull-vmm, which loads uncompressed ones only: unpacked once into a folder, found there again
// by what they are.

#include <string>

#include "base/error.h"

namespace hull::vm {

/// Where unpacked kernels are kept: below `data_root` when that is not empty, below Hull's data when HULL_ROOT names it
/// or this is root, else in the user's cache folder. kInvalid when the user has none.
Result<std::string> unpacked_kernels_folder(const std::string& data_root);

/// The path in `folder` of the vmlinux inside the kernel that `fd` reads from its position on (bzImage, or an ELF file
/// in one of the compressions). Unpacked when it is not there yet; the folder keeps the kernels used last, and none
/// that was used within the last hour is removed. Any number of processes may do this at once. Errors as those of
/// unpack_vmlinux and inspect_vmlinux.
Result<std::string> unpack_kernel(int fd, const std::string& folder);

inline constexpr size_t kMostUnpackedKernels = 8;

}  // namespace hull::vm
