#include "store/layer/layer_pipeline.h"

#include <thread>

#include "base/error_format.h"
#include "store/layer/chunk_pipe.h"
#include "store/layer/decompress.h"
#include "store/layer/hasher.h"

namespace hull::store {

namespace {

// Small enough that a chunk is still in the second-level cache when the next stage reads it, large enough that
// handing it over costs nothing.
constexpr size_t kBlobChunk = 256 << 10, kBlobChunks = 4;
constexpr size_t kTarChunk = 512 << 10, kTarChunks = 6;
constexpr uint64_t kRatioFloor = 1ULL << 30;

std::string_view name_of(LayerCompression compression) {
  switch (compression) {
    case LayerCompression::kAny:
      return "any";
    case LayerCompression::kNone:
      return "uncompressed tar";
    case LayerCompression::kGzip:
      return "gzip";
    case LayerCompression::kZstd:
      return "zstd";
  }
  return "unknown";
}

/// The three stages and what they share. The first failure of any stage wins; the others stop at the pipes.
class Pipeline {
 public:
  using Consume = std::function<Result<void>(std::span<const std::byte>)>;
  Pipeline(ByteSource& blob, const LayerOptions& options, const Consume& consume)
      : blob_(blob), options_(options), consume_(consume) {}

  Result<LayerInfo> run() {
    TRY_ASSIGN(Hasher blob_hasher,
               Hasher::create(options_.expected_blob ? options_.expected_blob->algorithm() : "sha256"));
    TRY_ASSIGN(Hasher diff_hasher,
               Hasher::create(options_.expected_diff_id ? options_.expected_diff_id->algorithm() : "sha256"));
    TRY(read_head());
    const bool plain = info_.compression == LayerCompression::kNone;
    std::thread consumer([&] { keep(consume_all(diff_hasher)); });
    std::thread inflater;
    if (!plain) inflater = std::thread([&] { keep(inflate_all()); });
    keep(read_all(plain ? tar_pipe_ : blob_pipe_, blob_hasher));
    if (inflater.joinable()) inflater.join();
    consumer.join();
    if (failure_) return std::move(*failure_);
    info_.blob_digest = blob_hasher.finish();
    info_.diff_id = diff_hasher.finish();
    TRY(check());
    return std::move(info_);
  }

 private:
  void keep(Result<void> result) {
    if (result.ok()) return;
    {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::move(result).error();
    }
    blob_pipe_.cancel();
    tar_pipe_.cancel();
  }

  /// Reads the first bytes and tells from them how the blob is compressed.
  Result<void> read_head() {
    TRY_ASSIGN(const size_t got, read_full(blob_, head_));
    head_size_ = got;
    info_.compression = sniff_compression(std::span(head_).first(got));
    if (options_.compression != LayerCompression::kAny && options_.compression != info_.compression) {
      return errorf(ErrorKind::kCorrupt, "the layer's media type says {}, its content is {}",
                    name_of(options_.compression),
                    info_.compression == LayerCompression::kNone ? "something else" : name_of(info_.compression));
    }
    return {};
  }

  Result<void> read_all(ChunkPipe& into, Hasher& hasher) {
    const bool plain = &into == &tar_pipe_;
    for (bool first = true;; first = false) {
      const std::span<std::byte> buffer = into.begin_write();
      if (buffer.empty()) return {};
      size_t have = 0;
      if (first) {
        have = head_size_;
        std::copy_n(head_, have, buffer.begin());
      }
      TRY_ASSIGN(const size_t got, read_full(blob_, buffer.subspan(have)));
      have += got;
      if (have == 0) break;
      info_.blob_size += have;
      if (options_.expected_blob_size && info_.blob_size > *options_.expected_blob_size) {
        return errorf(ErrorKind::kCorrupt, "the layer blob is longer than the {} bytes that its descriptor says",
                      *options_.expected_blob_size);
      }
      hasher.update(buffer.first(have));
      if (plain) TRY(count_tar(have, have));
      into.end_write(have);
    }
    into.close();
    return {};
  }

  /// Bounds what the blob makes of itself.
  Result<void> count_tar(size_t tar_bytes, size_t blob_bytes) {
    info_.tar_size += tar_bytes;
    inflated_from_ += blob_bytes;
    const LayerLimits& limits = options_.limits;
    if (limits.max_unpacked_bytes != 0 && info_.tar_size > limits.max_unpacked_bytes) {
      return errorf(ErrorKind::kInvalid, "the layer unpacks to more than the limit of {} bytes",
                    limits.max_unpacked_bytes);
    }
    if (limits.max_ratio != 0 && info_.tar_size > kRatioFloor && info_.tar_size / limits.max_ratio > inflated_from_) {
      return errorf(ErrorKind::kInvalid,
                    "the layer unpacks to more than {} times its size, as decompression bombs do (limit max_ratio)",
                    limits.max_ratio);
    }
    return {};
  }

  Result<void> inflate_all() {
    TRY_ASSIGN(const auto decompressor, make_decompressor(info_.compression));
    std::span<std::byte> out;
    size_t filled = 0;
    for (;;) {
      std::span<const std::byte> in = blob_pipe_.begin_read();
      if (in.empty()) break;
      for (;;) {
        if (filled == out.size()) {
          if (filled > 0) tar_pipe_.end_write(filled);
          out = tar_pipe_.begin_write();
          filled = 0;
          if (out.empty()) return {};
        }
        TRY_ASSIGN(const auto done, decompressor->step(in, out.subspan(filled)));
        in = in.subspan(done.consumed);
        filled += done.produced;
        TRY(count_tar(done.produced, done.consumed));
        if (in.empty() && filled < out.size()) break;
      }
      blob_pipe_.end_read();
    }
    if (blob_pipe_.cancelled()) return {};
    TRY(decompressor->finish());
    if (filled > 0) tar_pipe_.end_write(filled);
    tar_pipe_.close();
    return {};
  }

  Result<void> consume_all(Hasher& hasher) {
    for (;;) {
      const std::span<const std::byte> chunk = tar_pipe_.begin_read();
      if (chunk.empty()) return {};
      hasher.update(chunk);
      TRY(consume_(chunk));
      tar_pipe_.end_read();
    }
  }

  Result<void> check() const {
    if (options_.expected_blob_size && info_.blob_size != *options_.expected_blob_size) {
      return errorf(ErrorKind::kCorrupt, "the layer blob has {} bytes, its descriptor says {}", info_.blob_size,
                    *options_.expected_blob_size);
    }
    if (options_.expected_blob && info_.blob_digest != *options_.expected_blob) {
      return errorf(ErrorKind::kCorrupt, "the layer blob's digest is {}, expected {}", info_.blob_digest.str(),
                    options_.expected_blob->str());
    }
    if (options_.expected_diff_id && info_.diff_id != *options_.expected_diff_id) {
      return errorf(ErrorKind::kCorrupt, "the layer's content has diff id {}, the image config says {}",
                    info_.diff_id.str(), options_.expected_diff_id->str());
    }
    return {};
  }

  ByteSource& blob_;
  const LayerOptions& options_;
  const Consume& consume_;
  ChunkPipe blob_pipe_{kBlobChunks, kBlobChunk};
  ChunkPipe tar_pipe_{kTarChunks, kTarChunk};
  std::byte head_[8];
  size_t head_size_ = 0;
  LayerInfo info_;              // each field is written by one stage
  uint64_t inflated_from_ = 0;  // blob bytes behind tar_size
  std::mutex mutex_;
  std::optional<Error> failure_;
};

}  // namespace

Result<LayerInfo> run_pipeline(ByteSource& blob, const LayerOptions& options,
                               const std::function<Result<void>(std::span<const std::byte>)>& consume) {
  return Pipeline(blob, options, consume).run();
}

}  // namespace hull::store
