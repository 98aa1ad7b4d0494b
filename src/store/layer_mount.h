#pragma once
// Layer artifacts as folders that overlayfs can stack. On the hot path of `run`: nothing here needs curl, TLS or zlib.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/error.h"

namespace hull::store {

struct LayerPlaces {
  std::string layers;         ///< <data>/layers: <hex>.erofs, <hex>/
  std::string mounts;         ///< <run>/layers: <hex> is the mount point of an EROFS layer
  bool through_loop = false;  ///< always by a loop device, as kernels before 6.12 need it
};

/// Makes each layer available and returns the lowerdir paths in the same order. An EROFS file is mounted once per boot
/// (file-backed from Linux 6.12 on, through a loop device before), whoever comes first; a second call costs one
/// statx per layer. Safe between processes (a lock per layer). A layer in folder form is returned as it is.
/// kNotFound when a layer is in neither form; kCorrupt when the file is not an image that we wrote.
Result<std::vector<std::string>> ensure_mounted(const LayerPlaces& places, std::span<const Digest> diff_ids);

/// Unmounts one layer if it is mounted, and removes its mount point. A running overlay that was made of it keeps its
/// own reference and is not disturbed. Absent is success.
Result<void> unmount_layer(const LayerPlaces& places, const Digest& diff_id);

/// Unmounts every mounted layer that is not in `keep`; returns how many.
Result<size_t> unmount_unused(const LayerPlaces& places, std::span<const Digest> keep);

/// Whether this host can mount an EROFS image from a file (`layers` is a folder for a small probe image): decides
/// LayerBackend at the first pull. Costs two mounts; remember the answer.
bool can_mount_erofs(const std::string& layers);

}  // namespace hull::store
