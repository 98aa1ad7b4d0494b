#pragma once

#include <cstdint>
#include <span>

#include "base/digest.h"
#include "base/error.h"
#include "store/layer/layer_tree.h"

namespace hull::store {

/// Where the content of a layer's files goes while the tar streams, and what makes an artifact of it at the end.
/// The same calls for both back ends: begin_file, write..., end_file for each file with stored content; then finish.
class LayerSink {
 public:
  virtual ~LayerSink() = default;
  /// The next file. Sets inode.data (and whatever else of the content's place the back end keeps). `extents` is empty
  /// for a file without holes.
  virtual Result<void> begin_file(LayerTree& tree, InodeId inode, const TarEntry& entry) = 0;
  /// Stored content in order. The bytes must stay valid until flush().
  virtual Result<void> write(std::span<const std::byte> data) = 0;
  virtual Result<void> end_file() = 0;
  /// Everything handed to write() is with the kernel or copied.
  virtual Result<void> flush() = 0;
  /// Reads stored content back (for what is replaced later in the stream): `into` from `offset` in the file.
  virtual Result<void> read_back(const LayerTree& tree, InodeId inode, uint64_t offset, std::span<std::byte> into) = 0;
  /// Completes the artifact. Returns its size in bytes.
  virtual Result<uint64_t> finish(const LayerTree& tree, const Digest& diff_id) = 0;
};

}  // namespace hull::store
