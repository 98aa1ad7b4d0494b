#include "store/layer/tar_skeleton.h"

#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::store {

namespace {

constexpr int kLevel = 1;
constexpr size_t kLiteralRun = 64 << 10;
constexpr size_t kCopyPiece = 256 << 10;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void SkeletonWriter::FreeContext::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }

SkeletonWriter::SkeletonWriter(UniqueFd file) : file_(std::move(file)), context_(ZSTD_createCCtx()) {
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  out_.resize(ZSTD_CStreamOutSize());
  literal_.reserve(kLiteralRun);
}

SkeletonWriter::~SkeletonWriter() = default;

void SkeletonWriter::put_varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) record_.push_back(static_cast<std::byte>(value | 0x80));
  record_.push_back(static_cast<std::byte>(value));
}

Result<void> SkeletonWriter::compress(std::span<const std::byte> bytes, bool last) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    const size_t left = ZSTD_compressStream2(context_.get(), &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left) != 0) return errorf(ErrorKind::kInternal, "zstd: {}", ZSTD_getErrorName(left));
    if (out.pos > 0) {
      // The header is written last, so the file is positioned behind it.
      size_t done = 0;
      while (done < out.pos) {
        const ssize_t put = ::pwrite(file_.get(), out_.data() + done, out.pos - done, static_cast<off_t>(size_));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno_error("write the layer's tar skeleton");
        done += static_cast<size_t>(put);
        size_ += static_cast<uint64_t>(put);
      }
    }
    if (last ? left == 0 : in.pos == in.size) return {};
  }
}

Result<void> SkeletonWriter::end_literal() {
  if (literal_.empty()) return {};
  record_.assign(1, std::byte{'L'});
  put_varint(literal_.size());
  TRY(compress(record_, false));
  TRY(compress(literal_, false));
  literal_.clear();
  return {};
}

Result<void> SkeletonWriter::literal(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(kLiteralRun - literal_.size(), bytes.size());
    literal_.insert(literal_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    if (literal_.size() == kLiteralRun) TRY(end_literal());
  }
  return {};
}

Result<void> SkeletonWriter::content(std::string_view path, uint64_t length, const std::vector<Extent>& extents) {
  TRY(end_literal());
  record_.assign(1, std::byte{'F'});
  put_varint(length);
  put_varint(path.size());
  const auto bytes = std::as_bytes(std::span(path));
  record_.insert(record_.end(), bytes.begin(), bytes.end());
  put_varint(extents.size());
  for (const Extent& extent : extents) {
    put_varint(extent.offset);
    put_varint(extent.length);
  }
  if (!extents.empty()) extents_[static_cast<uint32_t>(lengths_.size())] = extents;
  lengths_.push_back(length);
  return compress(record_, false);
}

Result<void> SkeletonWriter::override_content(uint32_t number, const ReadBack& read) {
  TRY(end_literal());
  has_overrides_ = true;
  record_.assign(1, std::byte{'O'});
  put_varint(number);
  put_varint(lengths_.at(number));
  TRY(compress(record_, false));
  std::vector<Extent> extents{{0, lengths_[number]}};
  if (const auto sparse = extents_.find(number); sparse != extents_.end()) extents = sparse->second;
  std::vector<std::byte> piece(kCopyPiece);
  for (Extent extent : extents) {
    while (extent.length > 0) {
      const auto part = std::span(piece).first(static_cast<size_t>(std::min<uint64_t>(extent.length, piece.size())));
      TRY(read(extent.offset, part));
      TRY(compress(part, false));
      extent.offset += part.size();
      extent.length -= part.size();
    }
  }
  return {};
}

Result<uint64_t> SkeletonWriter::finish(uint64_t tar_size, const Digest& diff_id) {
  TRY(end_literal());
  record_.assign(1, std::byte{'E'});
  put_varint(tar_size);
  put_varint(diff_id.str().size());
  const auto bytes = std::as_bytes(std::span(diff_id.str()));
  record_.insert(record_.end(), bytes.begin(), bytes.end());
  TRY(compress(record_, true));
  SkeletonHeader header{};
  std::memcpy(header.magic, kSkeletonMagic, sizeof header.magic);
  header.has_overrides = has_overrides_ ? 1 : 0;
  TRY(sys::write_all(file_.get(), text_of(std::as_bytes(std::span(&header, 1)))));
  return size_;
}

}  // namespace hull::store
