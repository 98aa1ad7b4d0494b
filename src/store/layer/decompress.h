#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/error.h"
#include "store/layer/layer.h"

namespace hull::store {

/// What a blob is, from its first bytes (at least 6 unless it is shorter).
LayerCompression sniff_compression(std::span<const std::byte> head);

/// A streaming decompressor. gzip with any number of members (RFC 1952) by ISA-L, zstd with any number of frames and
/// skippable frames (RFC 8878). Hostile input fails with kCorrupt; a zstd window over 128 MiB is refused.
class Decompressor {
 public:
  virtual ~Decompressor() = default;
  struct Step {
    size_t consumed = 0, produced = 0;
  };
  /// Takes from `in` and fills `out` as far as either goes. Call again with more of either while out was filled whole,
  /// or in was not used up.
  virtual Result<Step> step(std::span<const std::byte> in, std::span<std::byte> out) = 0;
  /// The input has ended: kCorrupt when that is in the middle of a member or frame.
  virtual Result<void> finish() = 0;
};

/// kGzip or kZstd.
Result<std::unique_ptr<Decompressor>> make_decompressor(LayerCompression compression);

/// The decompressed bytes of a compressed source, in one thread. `source` must outlive it.
Result<std::unique_ptr<ByteSource>> decompressed(ByteSource& source, LayerCompression compression);

}  // namespace hull::store
