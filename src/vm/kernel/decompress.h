#pragma once
// The compressions in which kernels and modules come.

#include <string>
#include <string_view>

#include "base/error.h"

namespace hull::vm {

/// kLz4Legacy is the frame of `lz4 -l`, the only LZ4 form that the kernel's build uses. kBzip2 and kLzo are recognised,
/// so that the error can name them, and not read.
enum class Compression { kNone, kGzip, kZstd, kXz, kLzma, kLz4Legacy, kBzip2, kLzo };
std::string_view to_string(Compression compression);
/// By the first bytes; kNone when they are none of the known ones.
Compression compression_of(std::string_view bytes);

/// One whole stream; what follows it is ignored. kInvalid when it is damaged or unpacks to more than `limit` bytes;
/// kUnsupported for bzip2 and LZO.
Result<std::string> decompress(Compression compression, std::string_view bytes, size_t limit);

/// One zstd frame at `level`.
Result<std::string> compress_zstd(std::string_view bytes, int level);

}  // namespace hull::vm
