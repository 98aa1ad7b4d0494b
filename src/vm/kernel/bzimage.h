#pragma once
// The kernel inside a bzImage (Documentation/x86/boot.rst, protocol 2.08 and later).

#include <string>
#include <string_view>

#include "base/error.h"
#include "vm/kernel/decompress.h"

namespace hull::vm {

inline constexpr size_t kMostBzImageBytes = 256u << 20;

struct BzImage {
  std::string version;  ///< "6.1.0-56-cloud-amd64", the first word of its version text; "" when it has none
  Compression compression = Compression::kNone;
  std::string_view payload;     ///< the compressed vmlinux, a view into the file
  uint32_t unpacked_bytes = 0;  ///< what the build appended: how long the vmlinux is
};
bool is_bzimage(std::string_view file);
/// kInvalid when it is none, or damaged; kUnsupported for a protocol before 2.08 (Linux 2.6.26).
Result<BzImage> parse_bzimage(std::string_view file);

/// The uncompressed ELF file of a kernel that comes as bzImage, as ELF file, or as ELF file in one of the compressions.
/// kUnsupported names a compression that is not read.
Result<std::string> unpack_vmlinux(std::string_view file);

}  // namespace hull::vm
