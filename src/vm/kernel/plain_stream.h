#pragma once
// A compressed stream made plain, for callers that must not read hostile compressed bytes themselves.

#include "base/error.h"

namespace hull::vm {

/// Reads `in` to its end and writes what was compressed to `out`: gzip, bzip2, xz, zstd (and what is in none of them,
/// as it is). As root it becomes nobody first, for good. kCorrupt for broken streams.
Result<void> decompress_stream(int in, int out);

}  // namespace hull::vm
