#pragma once
// A layer blob becomes one artifact in one streaming pass: hash of the blob, decompression, hash of the tar (diff id),
// tar parser, EROFS image (or a folder tree), each stage on a thread of its own. Nothing is written twice.

#include <cstdint>
#include <optional>
#include <string>

#include "base/digest.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "store/layer/byte_source.h"
#include "store/layer_backend.h"

namespace hull::store {

/// How a blob is compressed, as its media type says.
enum class LayerCompression {
  kAny,   ///< told from the first bytes
  kNone,  ///< …tar
  kGzip,  ///< …tar+gzip, …tar.gzip
  kZstd,  ///< …tar+zstd
};

/// From a layer's media type (OCI and Docker); kUnsupported for one that is no layer or is encrypted.
Result<LayerCompression> compression_of_media_type(std::string_view media_type);

/// Bounds on what a blob from outside may make us do. 0 means unbounded.
struct LayerLimits {
  uint64_t max_unpacked_bytes = 256ULL << 30;  ///< of the tar stream
  uint32_t max_ratio = 1100;                   ///< tar bytes per blob byte, counted after the first GiB
  uint32_t max_entries = 16U << 20;
  uint32_t max_path = 4096;                   ///< bytes of an entry's name or link target (PATH_MAX)
  uint32_t max_xattrs_per_entry = 256 << 10;  ///< bytes, names and values
  uint64_t max_file_size = 1ULL << 44;        ///< apparent size, as a sparse file may claim it
};

struct LayerOptions {
  LayerBackend backend = LayerBackend::kErofs;
  LayerCompression compression = LayerCompression::kAny;
  LayerLimits limits;
  /// Checked when set; a mismatch is kCorrupt and nothing is left behind.
  std::optional<Digest> expected_blob;
  std::optional<uint64_t> expected_blob_size;
  std::optional<Digest> expected_diff_id;
  /// Marks opaque folders by user.overlay.opaque, for overlayfs mounted with `userxattr` (rootless), and leaves out
  /// what only real root may make: device nodes, trusted.* attributes.
  bool userxattr = false;
  /// Records the skeleton of the tar stream (<hex>.tarsplit), from which push and save reproduce it bit for bit.
  bool keep_skeleton = true;
};

struct LayerInfo {
  Digest diff_id;              ///< of the tar stream
  Digest blob_digest;          ///< of the blob as it came
  uint64_t blob_size = 0;      ///< bytes
  uint64_t tar_size = 0;       ///< bytes, with everything after the end-of-archive mark
  uint64_t artifact_size = 0;  ///< bytes: the EROFS file, or the content of the folder's files
  uint64_t entries = 0;        ///< tar entries
  LayerCompression compression = LayerCompression::kNone;  ///< what the blob really was
};

/// A converted layer that is not in its place yet. Unless commit() succeeded, the destructor removes what was written.
class StagedLayer {
 public:
  StagedLayer(StagedLayer&& other) noexcept;
  StagedLayer& operator=(StagedLayer&&) = delete;
  ~StagedLayer();

  const LayerInfo& info() const { return info_; }
  /// Renames into <hex of diff id>.erofs (or <hex>/) and <hex>.tarsplit. When the layer is there already (another
  /// process was faster), ours is dropped and that is success: equal diff ids are equal artifacts.
  /// Does not wait for the disk: see sync_layer().
  Result<void> commit();

 private:
  friend class LayerConverter;
  StagedLayer() = default;
  int layers_fd_ = -1;  // the caller's
  std::string stem_;    // names begin with it while staged; empty once committed or moved from
  LayerBackend backend_ = LayerBackend::kErofs;
  LayerInfo info_;
};

/// Converts one blob. `layers_fd`: the folder <data>/layers, which must outlive the result; `staging_name`: a name
/// there of the caller's choice and nobody else's (the files are <staging_name>.erofs or <staging_name>/,
/// <staging_name>.tarsplit, so that a sweeper knows what a killed process left). Reads `blob` in the calling thread
/// until its end.
/// Errors: kCorrupt (digest, truncated or broken compression or tar, hostile entries), kInvalid (a limit was hit),
/// kUnsupported (compression), kNoSpace, and whatever `blob` returned.
Result<StagedLayer> convert_layer(ByteSource& blob, int layers_fd, const std::string& staging_name,
                                  const LayerOptions& options);

/// Waits until the committed layer is on the disk (fsync of its files and of the folder). A pull calls it after the
/// image is runnable: until then a power cut (not a crash of ours) may damage the layer, and the index should say so.
Result<void> sync_layer(int layers_fd, const Digest& diff_id);

bool layer_exists(int layers_fd, const Digest& diff_id);

/// Removes artifact and skeleton. Absent is success. A mounted EROFS layer must be unmounted first (layer_mount.h).
Result<void> remove_layer(int layers_fd, const Digest& diff_id);

/// Bytes on disk of a committed layer: artifact and skeleton.
Result<uint64_t> layer_disk_usage(int layers_fd, const Digest& diff_id);

}  // namespace hull::store
