#include "store/layer/decompress.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error_format.h"

namespace hull::store {

namespace {

constexpr int kMaxWindowLog = 27;  // 128 MiB, the default bound of zstd's own tools
constexpr size_t kSourceChunk = 256 << 10;

class GzipDecompressor final : public Decompressor {
 public:
  GzipDecompressor() { reset(); }

  Result<Step> step(std::span<const std::byte> in, std::span<std::byte> out) override {
    Step done;
    while (done.produced < out.size()) {
      std::span<const std::byte> rest = in.subspan(done.consumed);
      if (phase_ == Phase::kBetween) {
        if (rest.empty()) break;
        // Zeros after the last member pad to a block on some media; anything else is a member.
        if (rest[0] == std::byte{0}) {
          phase_ = Phase::kZeros;
        } else {
          reset();
        }
        continue;
      }
      if (phase_ == Phase::kZeros) {
        if (!std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; })) {
          return errorf(ErrorKind::kCorrupt, "gzip: garbage after the end of the compressed data");
        }
        done.consumed = in.size();
        break;
      }
      state_->next_in = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(rest.data()));  // NOLINT: ISA-L only reads
      state_->avail_in = static_cast<uint32_t>(std::min<size_t>(rest.size(), 1U << 30));
      state_->next_out = reinterpret_cast<uint8_t*>(out.data() + done.produced);
      state_->avail_out = static_cast<uint32_t>(std::min<size_t>(out.size() - done.produced, 1U << 30));
      const uint32_t in_before = state_->avail_in, out_before = state_->avail_out;
      const int result = isal_inflate(state_.get());
      const size_t took = in_before - state_->avail_in, gave = out_before - state_->avail_out;
      done.consumed += took;
      done.produced += gave;
      if (took > 0) phase_ = Phase::kInside;
      if (result < 0) return failure(result);
      if (state_->block_state == ISAL_BLOCK_FINISH) {
        phase_ = Phase::kBetween;
        any_member_ = true;
      } else if (took == 0 && gave == 0) {
        if (!rest.empty()) return failure(result);
        break;
      }
    }
    return done;
  }

  Result<void> finish() override {
    if (phase_ == Phase::kInside || !any_member_) {
      return errorf(ErrorKind::kCorrupt, "gzip: the compressed data ends too early (truncated)");
    }
    return {};
  }

 private:
  enum class Phase { kInside, kBetween, kZeros };

  void reset() {
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP;
    phase_ = Phase::kInside;
  }

  static Error failure(int code) {
    const char* what = code == ISAL_INCORRECT_CHECKSUM   ? "its checksum does not match"
                       : code == ISAL_UNSUPPORTED_METHOD ? "its method is not deflate"
                       : code == ISAL_INVALID_WRAPPER    ? "a member has no gzip header"
                                                         : "the compressed data is damaged";
    return errorf(ErrorKind::kCorrupt, "gzip: {} ({})", what, code);
  }

  std::unique_ptr<inflate_state> state_ = std::make_unique<inflate_state>();
  Phase phase_ = Phase::kInside;
  bool any_member_ = false;
};

class ZstdDecompressor final : public Decompressor {
 public:
  ZstdDecompressor() { ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog); }

  Result<Step> step(std::span<const std::byte> in, std::span<std::byte> out) override {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos < to.size) {
      const size_t in_before = from.pos, out_before = to.pos;
      if (at_boundary_ && from.pos == from.size) break;
      const size_t result = ZSTD_decompressStream(context_.get(), &to, &from);
      if (ZSTD_isError(result) != 0) {
        return errorf(ErrorKind::kCorrupt, "zstd: {}", ZSTD_getErrorName(result));
      }
      at_boundary_ = result == 0;
      if (from.pos == in_before && to.pos == out_before) {
        if (from.pos < from.size) return errorf(ErrorKind::kCorrupt, "zstd: the compressed data is damaged");
        break;
      }
    }
    any_ = any_ || from.pos > 0;
    return Step{from.pos, to.pos};
  }

  Result<void> finish() override {
    if (!at_boundary_ || !any_) {
      return errorf(ErrorKind::kCorrupt, "zstd: the compressed data ends too early (truncated)");
    }
    return {};
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context_{ZSTD_createDCtx()};
  bool at_boundary_ = true, any_ = false;
};

class DecompressedSource final : public ByteSource {
 public:
  DecompressedSource(ByteSource& source, std::unique_ptr<Decompressor> decompressor)
      : source_(source), decompressor_(std::move(decompressor)), buffer_(kSourceChunk) {}

  Result<size_t> read(std::span<std::byte> into) override {
    if (into.empty()) return size_t{0};
    for (;;) {
      TRY_ASSIGN(const auto done, decompressor_->step(rest_, into));
      rest_ = rest_.subspan(done.consumed);
      if (done.produced > 0) return done.produced;
      if (!rest_.empty()) continue;
      if (ended_) return size_t{0};
      TRY_ASSIGN(const size_t got, source_.read(buffer_));
      rest_ = std::span(buffer_).first(got);
      if (got == 0) {
        TRY(decompressor_->finish());
        ended_ = true;
      }
    }
  }

 private:
  ByteSource& source_;
  std::unique_ptr<Decompressor> decompressor_;
  std::vector<std::byte> buffer_;
  std::span<const std::byte> rest_;
  bool ended_ = false;
};

}  // namespace

LayerCompression sniff_compression(std::span<const std::byte> head) {
  const auto byte = [&](size_t i) { return i < head.size() ? static_cast<unsigned>(head[i]) : 0U; };
  if (byte(0) == 0x1f && byte(1) == 0x8b) return LayerCompression::kGzip;
  const uint32_t magic = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
  // A frame, or a skippable frame (RFC 8878, 3.1.2) in front of one.
  if (magic == 0xFD2FB528U || (magic & 0xFFFFFFF0U) == 0x184D2A50U) return LayerCompression::kZstd;
  return LayerCompression::kNone;
}

Result<std::unique_ptr<Decompressor>> make_decompressor(LayerCompression compression) {
  if (compression == LayerCompression::kGzip) return std::unique_ptr<Decompressor>(new GzipDecompressor);
  if (compression == LayerCompression::kZstd) return std::unique_ptr<Decompressor>(new ZstdDecompressor);
  return errorf(ErrorKind::kInternal, "no decompressor is needed for plain data");
}

Result<std::unique_ptr<ByteSource>> decompressed(ByteSource& source, LayerCompression compression) {
  TRY_ASSIGN(auto decompressor, make_decompressor(compression));
  return std::unique_ptr<ByteSource>(new DecompressedSource(source, std::move(decompressor)));
}

}  // namespace hull::store
