#include "store/layer/erofs_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "store/erofs_format.h"

namespace hull::store {

using erofs::kBlockSize;

namespace {

constexpr size_t kMaxInline = 2000;   // two inodes with tails fit into a block
constexpr size_t kMaxPending = 1000;  // below IOV_MAX
constexpr uint64_t kMaxBlocks = TailStore::kScratchAt / kBlockSize - 1;
constexpr uint32_t kMaxChunkBits = erofs::kBlockBits + 31;
constexpr size_t kHoleStep = 64 << 10;  // zeros are looked for in pieces of this size
constexpr std::byte kZeros[kBlockSize]{};

bool all_zero(std::span<const std::byte> data) {
  return data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

Result<void> write_vector(int fd, std::vector<iovec>& parts, uint64_t at) {
  size_t first = 0;
  while (first < parts.size()) {
    const ssize_t put =
        ::pwritev(fd, parts.data() + first, static_cast<int>(parts.size() - first), static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("write the layer image");
    at += static_cast<uint64_t>(put);
    auto done = static_cast<size_t>(put);
    while (first < parts.size() && done >= parts[first].iov_len) done -= parts[first++].iov_len;
    if (first < parts.size()) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + done;
      parts[first].iov_len -= done;
    }
  }
  return {};
}

}  // namespace

bool erofs_fits_inline(size_t xattr_size, uint64_t size) {
  return size <= kMaxInline && (sizeof(erofs::ExtendedInode) + xattr_size) % kBlockSize + size <= kBlockSize;
}

Result<uint32_t> ErofsWriter::take_blocks(uint64_t bytes) {
  const uint64_t count = bytes / kBlockSize + (bytes % kBlockSize != 0 ? 1 : 0);
  if (count > kMaxBlocks || next_block_ + count > kMaxBlocks) {
    return errorf(ErrorKind::kInvalid, "the layer needs more than the 8 TiB that one image can hold");
  }
  const auto first = static_cast<uint32_t>(next_block_);
  next_block_ += count;
  return first;
}

Result<void> ErofsWriter::begin_file(LayerTree& tree, InodeId id, const TarEntry& entry) {
  TreeInode& inode = tree.inode(id);
  Place place;
  targets_.clear();
  target_ = 0;
  pad_ = 0;
  blocks_left_ = 0;
  if (entry.sparse && entry.size > 0) {
    TRY(begin_sparse(place, entry));
  } else {
    const uint64_t tail = entry.size % kBlockSize;
    const size_t xattrs = erofs_xattr_body(tree, inode, userxattr_).size();
    if (tail > 0 && erofs_fits_inline(xattrs, tail) && tails_.has_room(static_cast<size_t>(tail))) {
      place.tail_length = static_cast<uint32_t>(tail);
      place.tail_at = tails_.end();
    } else if (tail > 0) {
      pad_ = kBlockSize - static_cast<size_t>(tail);
    }
    blocks_left_ = entry.size - place.tail_length;
    TRY_ASSIGN(place.first_block, take_blocks(blocks_left_));
    TRY(seek(static_cast<uint64_t>(place.first_block) * kBlockSize));
  }
  places_.push_back(place);
  inode.data = places_.size();
  return {};
}

/// A file with holes is mapped in chunks of one size, each with its first block or none. The map must not be large for
/// a file that only claims to be large, so the chunks grow until the map is in proportion to the stored content.
Result<void> ErofsWriter::begin_sparse(Place& place, const TarEntry& entry) {
  const uint64_t most = 64 + 8 * (entry.stored_size / kBlockSize + entry.extents.size());
  uint32_t bits = erofs::kBlockBits;
  while (bits < kMaxChunkBits && ((entry.size - 1) >> bits) + 1 > most) ++bits;
  place.chunk_bits = bits;
  place.chunks_at = chunks_.size();
  const uint64_t chunk = 1ULL << bits;
  chunks_.resize(chunks_.size() + ((entry.size - 1) >> bits) + 1, erofs::kNullAddress);
  uint32_t* map = chunks_.data() + place.chunks_at;
  for (const Extent& extent : entry.extents) {
    const uint64_t first = extent.offset >> bits, last = (extent.offset + extent.length - 1) >> bits;
    for (uint64_t i = first; i <= last; ++i) {
      if (map[i] != erofs::kNullAddress) continue;
      TRY_ASSIGN(map[i], take_blocks(chunk));
    }
    // Chunks are taken in order, so a stretch over several of them is in one piece in the image too.
    targets_.push_back({static_cast<uint64_t>(map[first]) * kBlockSize + extent.offset % chunk, extent.length});
  }
  return {};
}

Result<void> ErofsWriter::seek(uint64_t offset) {
  if (pending_at_ + pending_bytes_ == offset) return {};
  TRY(flush());
  pending_at_ = offset;
  return {};
}

Result<void> ErofsWriter::put(std::span<const std::byte> data) {
  pending_.push_back(
      {const_cast<std::byte*>(data.data()), data.size()});  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  pending_bytes_ += data.size();
  return pending_.size() >= kMaxPending ? flush() : Result<void>();
}

/// Long runs of zeros are left out of the image, where a hole reads the same: a disk image full of nothing costs
/// nothing. What is not zero fails the test at its first bytes.
Result<void> ErofsWriter::put_around_zeros(std::span<const std::byte> data) {
  while (!data.empty()) {
    size_t used = 0;
    while (data.size() - used >= kHoleStep && !all_zero(data.subspan(used, kHoleStep))) used += kHoleStep;
    if (data.size() - used < kHoleStep) return put(data);
    if (used > 0) TRY(put(data.first(used)));
    data = data.subspan(used);
    while (data.size() >= kHoleStep && all_zero(data.first(kHoleStep))) {
      TRY(seek(pending_at_ + pending_bytes_ + kHoleStep));
      data = data.subspan(kHoleStep);
    }
  }
  return {};
}

Result<void> ErofsWriter::write(std::span<const std::byte> data) {
  while (!data.empty() && target_ < targets_.size()) {
    Extent& target = targets_[target_];
    const size_t count = static_cast<size_t>(std::min<uint64_t>(target.length, data.size()));
    TRY(seek(target.offset));
    TRY(put(data.first(count)));
    data = data.subspan(count);
    target.offset += count;
    target.length -= count;
    if (target.length == 0) ++target_;
  }
  const size_t count = static_cast<size_t>(std::min<uint64_t>(blocks_left_, data.size()));
  if (count > 0) {
    TRY(put_around_zeros(data.first(count)));
    blocks_left_ -= count;
    data = data.subspan(count);
  }
  return data.empty() ? Result<void>() : tails_.append(data);
}

Result<void> ErofsWriter::end_file() { return pad_ > 0 ? put(std::span(kZeros).first(pad_)) : Result<void>(); }

Result<void> ErofsWriter::flush() {
  if (!pending_.empty()) TRY(write_vector(file_.get(), pending_, pending_at_));
  pending_at_ += pending_bytes_;
  pending_bytes_ = 0;
  pending_.clear();
  return {};
}

Result<void> ErofsWriter::read_back(const LayerTree& tree, InodeId id, uint64_t offset, std::span<std::byte> into) {
  TRY(flush());
  const TreeInode& inode = tree.inode(id);
  const Place& place = places_.at(inode.data - 1);
  const uint64_t whole = inode.size - place.tail_length;
  while (!into.empty()) {
    uint64_t at = 0;
    size_t count = into.size();
    if (place.chunk_bits != 0) {
      const uint64_t chunk = 1ULL << place.chunk_bits;
      const uint32_t block = chunks_[place.chunks_at + (offset >> place.chunk_bits)];
      count = static_cast<size_t>(std::min<uint64_t>(count, chunk - offset % chunk));
      if (block == erofs::kNullAddress) return errorf(ErrorKind::kInternal, "read back a hole of a layer image");
      at = static_cast<uint64_t>(block) * kBlockSize + offset % chunk;
    } else if (offset >= whole) {
      return tails_.read(place.tail_at + (offset - whole), into);
    } else {
      count = static_cast<size_t>(std::min<uint64_t>(count, whole - offset));
      at = static_cast<uint64_t>(place.first_block) * kBlockSize + offset;
    }
    const ssize_t got = ::pread(file_.get(), into.data(), count, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("read the layer image back");
    if (got == 0) return errorf(ErrorKind::kInternal, "the layer image is shorter than what was written to it");
    offset += static_cast<uint64_t>(got);
    into = into.subspan(static_cast<size_t>(got));
  }
  return {};
}

Result<uint64_t> ErofsWriter::finish(const LayerTree& tree, const Digest& diff_id) {
  TRY(flush());
  return ErofsMetadata(*this, tree).write(diff_id);
}

}  // namespace hull::store
