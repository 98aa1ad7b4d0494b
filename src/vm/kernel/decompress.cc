#include "vm/kernel/decompress.h"

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "base/error_format.h"

namespace hull::vm {
namespace {

constexpr size_t kStep = 1 << 20;
constexpr size_t kLz4Block = 8 << 20;  // `lz4 -l` cuts its input into these
constexpr uint32_t kLz4Magic = 0x184C2102;
constexpr uint64_t kMostLzmaMemory = 256 << 20;

Error damaged(Compression compression) {
  return errorf(ErrorKind::kInvalid, "damaged {} data", to_string(compression));
}
Error too_long(Compression compression, size_t limit) {
  return errorf(ErrorKind::kInvalid, "{} data that unpacks to more than {} bytes", to_string(compression), limit);
}

/// Room for the next step at the end of `out`, whose first `used` bytes are filled. False: the limit is reached.
bool make_room(std::string& out, size_t used, size_t limit) {
  if (used < out.size()) return true;
  if (used >= limit) return false;
  // One byte beyond the limit tells "exactly the limit" from "more".
  out.resize(std::min(limit, std::max(used * 2, used + kStep)));
  return true;
}

Result<std::string> gunzip(std::string_view bytes, size_t limit) {
  z_stream stream{};
  if (::inflateInit2(&stream, 15 + 16) != Z_OK) return Error(ErrorKind::kInternal, "zlib can't be started");
  const std::unique_ptr<z_stream, void (*)(z_stream*)> guard(&stream, [](z_stream* z) { ::inflateEnd(z); });
  std::string copy(bytes.substr(0, 0));
  std::string out;
  size_t used = 0;
  size_t taken = 0;
  for (;;) {
    if (stream.avail_in == 0 && taken < bytes.size()) {
      const size_t part = std::min(bytes.size() - taken, kStep);
      copy.assign(bytes.substr(taken, part));  // zlib's pointer is not const
      stream.next_in = reinterpret_cast<Bytef*>(copy.data());
      stream.avail_in = static_cast<uInt>(part);
      taken += part;
    }
    if (!make_room(out, used, limit + 1)) return too_long(Compression::kGzip, limit);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    stream.avail_out = static_cast<uInt>(std::min(out.size() - used, kStep));
    const size_t before = stream.avail_out;
    const int status = ::inflate(&stream, Z_NO_FLUSH);
    used += before - stream.avail_out;
    if (status == Z_STREAM_END) break;
    if (status != Z_OK || (stream.avail_in == 0 && taken == bytes.size() && stream.avail_out == before)) {
      return damaged(Compression::kGzip);
    }
  }
  if (used > limit) return too_long(Compression::kGzip, limit);
  out.resize(used);
  return out;
}

Result<std::string> unzstd(std::string_view bytes, size_t limit) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(::ZSTD_createDCtx(), &::ZSTD_freeDCtx);
  if (!context) return Error(ErrorKind::kInternal, "zstd can't be started");
  std::string out;
  size_t used = 0;
  ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
  for (;;) {
    if (!make_room(out, used, limit + 1)) return too_long(Compression::kZstd, limit);
    ZSTD_outBuffer to = {out.data(), out.size(), used};
    const size_t in_before = in.pos;
    const size_t left = ::ZSTD_decompressStream(context.get(), &to, &in);
    if (::ZSTD_isError(left) != 0) return damaged(Compression::kZstd);
    const bool moved = to.pos != used || in.pos != in_before;
    used = to.pos;
    if (left == 0) break;
    if (!moved) return damaged(Compression::kZstd);  // cut short
  }
  if (used > limit) return too_long(Compression::kZstd, limit);
  out.resize(used);
  return out;
}

/// xz, and the older form lzma.
Result<std::string> unxz(Compression compression, std::string_view bytes, size_t limit) {
  lzma_stream stream = LZMA_STREAM_INIT;
  const lzma_ret begun = compression == Compression::kXz ? ::lzma_stream_decoder(&stream, kMostLzmaMemory, 0)
                                                         : ::lzma_alone_decoder(&stream, kMostLzmaMemory);
  if (begun != LZMA_OK) return Error(ErrorKind::kInternal, "liblzma can't be started");
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> guard(&stream, &::lzma_end);
  std::string out;
  size_t used = 0;
  stream.next_in = reinterpret_cast<const uint8_t*>(bytes.data());
  stream.avail_in = bytes.size();
  for (;;) {
    if (!make_room(out, used, limit + 1)) return too_long(compression, limit);
    stream.next_out = reinterpret_cast<uint8_t*>(out.data() + used);
    stream.avail_out = out.size() - used;
    const lzma_ret status = ::lzma_code(&stream, LZMA_FINISH);
    used = out.size() - stream.avail_out;
    if (status == LZMA_STREAM_END) break;
    if (status != LZMA_OK) return damaged(compression);
  }
  if (used > limit) return too_long(compression, limit);
  out.resize(used);
  return out;
}

uint32_t little32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

/// Magic, then blocks of {size, data} until the input ends; the magic may come again between blocks.
Result<std::string> unlz4(std::string_view bytes, size_t limit) {
  std::string out;
  std::string block(std::min(kLz4Block, limit + 1), '\0');
  bytes.remove_prefix(4);
  while (bytes.size() >= 4) {
    const uint32_t size = little32(bytes);
    bytes.remove_prefix(4);
    if (size == kLz4Magic) continue;
    if (size == 0) break;
    if (size > bytes.size()) return damaged(Compression::kLz4Legacy);
    const int got =
        ::LZ4_decompress_safe(bytes.data(), block.data(), static_cast<int>(size), static_cast<int>(block.size()));
    if (got < 0) return damaged(Compression::kLz4Legacy);
    if (static_cast<size_t>(got) > limit - out.size()) return too_long(Compression::kLz4Legacy, limit);
    out.append(block, 0, static_cast<size_t>(got));
    bytes.remove_prefix(size);
  }
  return out;
}

}  // namespace

std::string_view to_string(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "uncompressed";
    case Compression::kGzip:
      return "gzip";
    case Compression::kZstd:
      return "zstd";
    case Compression::kXz:
      return "xz";
    case Compression::kLzma:
      return "lzma";
    case Compression::kLz4Legacy:
      return "LZ4";
    case Compression::kBzip2:
      return "bzip2";
    case Compression::kLzo:
      return "LZO";
  }
  return "";
}

Compression compression_of(std::string_view bytes) {
  constexpr std::pair<std::string_view, Compression> kMagic[] = {
      {"\x1f\x8b\x08", Compression::kGzip},
      {"\x28\xb5\x2f\xfd", Compression::kZstd},
      {"\xfd\x37zXZ", Compression::kXz},
      {"\x02\x21\x4c\x18", Compression::kLz4Legacy},
      {"BZh", Compression::kBzip2},
      {"\x89LZO", Compression::kLzo},
      {{"\x5d\x00\x00", 3}, Compression::kLzma},
  };
  for (const auto& [magic, compression] : kMagic) {
    if (bytes.starts_with(magic)) return compression;
  }
  return Compression::kNone;
}

Result<std::string> decompress(Compression compression, std::string_view bytes, size_t limit) {
  switch (compression) {
    case Compression::kNone:
      if (bytes.size() > limit) return too_long(compression, limit);
      return std::string(bytes);
    case Compression::kGzip:
      return gunzip(bytes, limit);
    case Compression::kZstd:
      return unzstd(bytes, limit);
    case Compression::kXz:
    case Compression::kLzma:
      return unxz(compression, bytes, limit);
    case Compression::kLz4Legacy:
      if (bytes.size() < 4) return damaged(compression);
      return unlz4(bytes, limit);
    case Compression::kBzip2:
    case Compression::kLzo:
      break;
  }
  return errorf(ErrorKind::kUnsupported, "{} compression is not among those that are read (gzip, zstd, xz, lzma, LZ4)",
                to_string(compression));
}

Result<std::string> compress_zstd(std::string_view bytes, int level) {
  std::string out(::ZSTD_compressBound(bytes.size()), '\0');
  const size_t size = ::ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), level);
  if (::ZSTD_isError(size) != 0) return errorf(ErrorKind::kInternal, "zstd: {}", ::ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

}  // namespace hull::vm
