#pragma once
// What a workload has written: its upper layer held against the image below.

#include <string>
#include <vector>

#include "base/error.h"
#include "engine/files.h"
#include "sys/root.h"
#include "tar/tar_writer.h"

namespace hull::engine {

/// In the order of a walk. `upper`: an overlayfs upper folder; `lower`: the stack below. Mount points that the runtime
/// made in an image that has none (/proc, /dev, /etc/hosts ...) are no changes.
Result<std::vector<FileChange>> layer_changes(const sys::Root& upper, const sys::Root& lower);

/// The same as a layer (image-spec, "Representing Changes"): what was deleted becomes ".wh." entries.
Result<void> write_layer(const sys::Root& upper, const std::vector<FileChange>& changes, tar::TarWriter& writer);

}  // namespace hull::engine
