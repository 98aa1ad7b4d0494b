#pragma once

#include <memory>

#include "base/digest.h"
#include "base/error.h"
#include "store/layer/byte_source.h"
#include "sys/root.h"

namespace hull::store {

/// The tar stream of a committed layer, bit for bit as it was pulled: headers and padding from <hex>.tarsplit, the
/// content of files from the mounted layer (`mounted`: what ensure_mounted() of layer_mount.h returned, or the
/// layer's folder). The stream verifies itself: the read() that reaches the end fails with kCorrupt unless the
/// diff id of what was produced is `diff_id`.
/// kNotFound when the layer was converted without a skeleton.
Result<std::unique_ptr<ByteSource>> open_layer_tar(int layers_fd, const Digest& diff_id, sys::Root mounted);

/// Reads the whole of open_layer_tar(): whether artifact and skeleton are still what was pulled (`system check`).
Result<void> verify_layer(int layers_fd, const Digest& diff_id, sys::Root mounted);

}  // namespace hull::store
