#pragma once
// Copying a folder of an image into a volume.

#include "base/error.h"

namespace hull::engine {

/// Copies what is below `from` (a directory descriptor) into `to`, with owners, modes, times, links, devices, extended
/// attributes and hard links, and gives `to` itself the owner and mode of `from`. Links are copied as links; nothing is
/// followed, so nothing outside of either folder is read or written.
Result<void> copy_tree(int from, int to);

}  // namespace hull::engine
