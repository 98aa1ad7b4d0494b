#pragma once
// The writable disk of a machine: a sparse raw file with an empty ext4, which keeps the upper and work folders of the
// guest's overlay. mke2fs makes a template once for each size; a workload gets a copy of its few hundred kilobytes of
// data extents.

#include <cstdint>
#include <string>

#include "base/error.h"

namespace hull::vm {

inline constexpr uint64_t kDefaultScratchBytes = 10ull << 30;
inline constexpr uint64_t kLeastScratchBytes = 16ull << 20;
inline constexpr uint64_t kMostScratchBytes = 16ull << 40;

/// Writes the disk to `path` (which must not exist; 0600) with a size of `bytes`, rounded up to a mebibyte. Templates
/// are kept in `cache_folder` (made when missing). kInvalid for a size out of range, kUnsupported with what to install
/// when mke2fs is missing, kNoSpace when the disk is full; after an error `path` is not there.
Result<void> make_scratch_disk(const std::string& path, uint64_t bytes, const std::string& cache_folder);

}  // namespace hull::vm
