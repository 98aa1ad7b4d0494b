#pragma once

#include <functional>

#include "store/layer/layer.h"

namespace hull::store {

/// Streams a blob through hash, decompression and hash, and hands the tar bytes to `consume` (on another thread, one
/// call at a time; the bytes are valid during the call). Fills the digests and sizes of the result and checks them
/// against what the options expect.
Result<LayerInfo> run_pipeline(ByteSource& blob, const LayerOptions& options,
                               const std::function<Result<void>(std::span<const std::byte>)>& consume);

}  // namespace hull::store
