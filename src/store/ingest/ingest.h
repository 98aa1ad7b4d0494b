#pragma once
// How layers from anywhere (registry, archive, import) get into the store: once, under the layer's lock, in parallel.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "oci/image_spec.h"
#include "store/image_writer.h"
#include "store/ingest/progress.h"
#include "store/layer/byte_source.h"
#include "store/layer/layer.h"

namespace hull::store {

/// The back end for this host, found out once per process (HULL_LAYER_BACKEND=erofs|directory overrides).
Result<LayerBackend> host_layer_backend(const ImageWriter& writer);

struct LayerJob {
  std::string label;  ///< for progress: 12 hex digits
  Digest diff_id;     ///< from the image config
  LayerCompression compression = LayerCompression::kAny;
  std::optional<Digest> blob_digest;  ///< checked when set
  std::optional<uint64_t> blob_size;  ///< checked when set
  std::string media_type;             ///< kept with the blob
  std::string repository;             ///< registry/repository where the blob is, or ""
  /// Opens the blob. Called at most once, on a worker thread.
  std::function<Result<std::unique_ptr<ByteSource>>()> open;
};

/// The job of a blob that a manifest names; where to open it is left to the caller. kUnsupported for foreign media
/// types.
Result<LayerJob> layer_job(const oci::Descriptor& blob, const Digest& diff_id);

/// Brings every layer into the store, up to `parallel` at a time. Layers that are there, or that another process has
/// just brought, are not opened. On the first failure the others are abandoned through `abandon` (may be empty) and the
/// first error is returned.
Result<void> ingest_layers(ImageWriter& writer, std::vector<LayerJob> jobs, const LayerLimits& limits, int parallel,
                           TransferProgress& progress, const std::function<void()>& abandon);

/// A tarball whose diff id nobody knows yet (`import`). Returns what it became.
Result<LayerInfo> ingest_unknown(ImageWriter& writer, ByteSource& tar, const LayerLimits& limits);

/// Waits until every layer that this command wrote is on the disk, and notes it in the index.
Result<void> sync_written_layers(ImageWriter& writer);

/// Digest of a small document.
Digest sha256_of(std::string_view data);

}  // namespace hull::store
