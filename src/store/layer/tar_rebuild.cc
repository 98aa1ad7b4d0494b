#include "store/layer/tar_rebuild.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "base/error_format.h"
#include "store/layer/decompress.h"
#include "store/layer/hasher.h"
#include "store/layer/tar_header.h"
#include "store/layer/tar_skeleton.h"
#include "sys/file.h"

namespace hull::store {

namespace {

constexpr size_t kReadAhead = 128 << 10;
constexpr size_t kMaxPath = 1 << 20;

/// The decompressed records of a skeleton, in order. The file is ours, but may be damaged.
class RecordReader {
 public:
  static Result<std::unique_ptr<RecordReader>> open(UniqueFd file, bool& has_overrides) {
    SkeletonHeader header{};
    std::unique_ptr<RecordReader> reader(new RecordReader(std::move(file)));
    TRY_ASSIGN(const size_t got, read_full(reader->compressed_, std::as_writable_bytes(std::span(&header, 1))));
    if (got != sizeof header || std::memcmp(header.magic, kSkeletonMagic, sizeof header.magic) != 0) return damaged();
    has_overrides = header.has_overrides != 0;
    TRY_ASSIGN(reader->records_, decompressed(reader->compressed_, LayerCompression::kZstd));
    return reader;
  }

  static Error damaged() { return errorf(ErrorKind::kCorrupt, "the layer's tar skeleton is damaged"); }

  Result<void> exactly(std::span<std::byte> into) {
    while (!into.empty()) {
      if (at_ == end_) TRY(fill());
      const size_t count = std::min(into.size(), end_ - at_);
      std::memcpy(into.data(), buffer_.data() + at_, count);
      at_ += count;
      into = into.subspan(count);
    }
    return {};
  }

  Result<uint8_t> byte() {
    if (at_ == end_) TRY(fill());
    return static_cast<uint8_t>(buffer_[at_++]);
  }

  Result<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      TRY_ASSIGN(const uint8_t next, byte());
      value |= static_cast<uint64_t>(next & 0x7f) << shift;
      if (next < 0x80) return value;
    }
    return damaged();
  }

  Result<std::string> text(size_t limit) {
    TRY_ASSIGN(const uint64_t length, varint());
    if (length > limit) return damaged();
    std::string out(length, '\0');
    TRY(exactly(std::as_writable_bytes(std::span(out))));
    return out;
  }

  Result<std::vector<Extent>> extents() {
    TRY_ASSIGN(const uint64_t count, varint());
    if (count > kMaxExtents) return damaged();
    std::vector<Extent> out;
    for (uint64_t i = 0; i < count; ++i) {
      Extent extent;
      TRY_ASSIGN(extent.offset, varint());
      TRY_ASSIGN(extent.length, varint());
      out.push_back(extent);
    }
    return out;
  }

 private:
  explicit RecordReader(UniqueFd file) : file_(std::move(file)), compressed_(file_.get()), buffer_(kReadAhead) {}

  Result<void> fill() {
    TRY_ASSIGN(end_, records_->read(buffer_));
    at_ = 0;
    if (end_ == 0) return damaged();
    return {};
  }

  UniqueFd file_;
  FdSource compressed_;
  std::unique_ptr<ByteSource> records_;
  std::vector<std::byte> buffer_;
  size_t at_ = 0, end_ = 0;
};

/// Contents that the layer lost, copied out of the skeleton into a nameless file.
struct Overrides {
  UniqueFd file;
  std::map<uint64_t, uint64_t> at;  // number of the F record -> offset in the file
};

Result<Overrides> collect_overrides(UniqueFd skeleton, int layers_fd) {
  Overrides overrides;
  bool ignored = false;
  TRY_ASSIGN(const auto reader, RecordReader::open(std::move(skeleton), ignored));
  TRY_ASSIGN(overrides.file, sys::open_at(layers_fd, ".", O_TMPFILE | O_RDWR, 0600));
  std::vector<std::byte> piece(kReadAhead);
  uint64_t end = 0;
  const auto pass = [&](uint64_t length, bool keep) -> Result<void> {
    while (length > 0) {
      const auto part = std::span(piece).first(static_cast<size_t>(std::min<uint64_t>(length, piece.size())));
      TRY(reader->exactly(part));
      length -= part.size();
      if (keep) TRY(sys::write_all(overrides.file.get(), {reinterpret_cast<const char*>(part.data()), part.size()}));
    }
    return {};
  };
  for (;;) {
    TRY_ASSIGN(const uint8_t type, reader->byte());
    if (type == 'E') return overrides;
    if (type == 'L') {
      TRY_ASSIGN(const uint64_t length, reader->varint());
      TRY(pass(length, false));
    } else if (type == 'F') {
      TRY(reader->varint());
      TRY(reader->text(kMaxPath));
      TRY(reader->extents());
    } else if (type == 'O') {
      TRY_ASSIGN(const uint64_t number, reader->varint());
      TRY_ASSIGN(const uint64_t length, reader->varint());
      overrides.at[number] = end;
      end += length;
      TRY(pass(length, true));
    } else {
      return RecordReader::damaged();
    }
  }
}

class TarRebuilder final : public ByteSource {
 public:
  TarRebuilder(std::unique_ptr<RecordReader> reader, Overrides overrides, sys::Root mounted, Hasher hasher,
               Digest diff_id)
      : reader_(std::move(reader)),
        overrides_(std::move(overrides)),
        mounted_(std::move(mounted)),
        hasher_(std::move(hasher)),
        diff_id_(std::move(diff_id)) {}

  Result<size_t> read(std::span<std::byte> into) override {
    if (into.empty()) return size_t{0};
    while (!ended_) {
      if (literal_left_ > 0) {
        const auto part = into.first(static_cast<size_t>(std::min<uint64_t>(literal_left_, into.size())));
        TRY(reader_->exactly(part));
        literal_left_ -= part.size();
        return produced(part);
      }
      if (!extents_.empty()) {
        TRY_ASSIGN(const size_t got, read_content(into));
        return produced(into.first(got));
      }
      TRY(next_record());
    }
    return size_t{0};
  }

 private:
  size_t produced(std::span<const std::byte> bytes) {
    hasher_.update(bytes);
    produced_ += bytes.size();
    return bytes.size();
  }

  Result<size_t> read_content(std::span<std::byte> into) {
    Extent& extent = extents_.back();
    const size_t count = static_cast<size_t>(std::min<uint64_t>(into.size(), extent.length));
    ssize_t got = -1;
    do {
      got = ::pread(content_fd_, into.data(), count, static_cast<off_t>(extent.offset));
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errnof("read {} of the layer", path_);
    if (got == 0) return errorf(ErrorKind::kCorrupt, "file {} of the layer is shorter than it was", path_);
    extent.offset += static_cast<uint64_t>(got);
    extent.length -= static_cast<uint64_t>(got);
    if (extent.length == 0) extents_.pop_back();
    return static_cast<size_t>(got);
  }

  Result<void> next_record() {
    TRY_ASSIGN(const uint8_t type, reader_->byte());
    switch (type) {
      case 'L': {
        TRY_ASSIGN(literal_left_, reader_->varint());
        return {};
      }
      case 'F':
        return begin_content();
      case 'O': {  // collected before
        TRY(reader_->varint());
        TRY_ASSIGN(uint64_t length, reader_->varint());
        std::vector<std::byte> piece(kReadAhead);
        while (length > 0) {
          const auto part = std::span(piece).first(static_cast<size_t>(std::min<uint64_t>(length, piece.size())));
          TRY(reader_->exactly(part));
          length -= part.size();
        }
        return {};
      }
      case 'E':
        return end();
      default:
        return RecordReader::damaged();
    }
  }

  Result<void> begin_content() {
    TRY_ASSIGN(const uint64_t length, reader_->varint());
    TRY_ASSIGN(path_, reader_->text(kMaxPath));
    TRY_ASSIGN(extents_, reader_->extents());
    if (const auto lost = overrides_.at.find(number_++); lost != overrides_.at.end()) {
      extents_.assign(1, Extent{lost->second, length});
      content_fd_ = overrides_.file.get();
      return {};
    }
    // O_NONBLOCK: what is not the regular file that it was must not hang us.
    TRY_ASSIGN(file_, mounted_.open_in(path_, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    struct stat info{};
    if (::fstat(file_.get(), &info) != 0) return errnof("stat {} of the layer", path_);
    if (!S_ISREG(info.st_mode)) return errorf(ErrorKind::kCorrupt, "{} of the layer is not a file any more", path_);
    content_fd_ = file_.get();
    if (extents_.empty()) extents_.push_back({0, length});
    std::erase_if(extents_, [](const Extent& extent) { return extent.length == 0; });
    std::reverse(extents_.begin(), extents_.end());
    return {};
  }

  Result<void> end() {
    TRY_ASSIGN(const uint64_t size, reader_->varint());
    TRY_ASSIGN(const std::string recorded, reader_->text(256));
    if (recorded != diff_id_.str()) return RecordReader::damaged();
    const Digest found = hasher_.finish();
    if (size != produced_ || found != diff_id_) {
      return errorf(ErrorKind::kCorrupt, "layer {} is damaged: its content now has the diff id {}", diff_id_.str(),
                    found.str());
    }
    ended_ = true;
    return {};
  }

  std::unique_ptr<RecordReader> reader_;
  Overrides overrides_;
  sys::Root mounted_;
  Hasher hasher_;
  Digest diff_id_;
  uint64_t literal_left_ = 0, produced_ = 0, number_ = 0;
  std::vector<Extent> extents_;  // still to read, last first
  std::string path_;
  UniqueFd file_;
  int content_fd_ = -1;
  bool ended_ = false;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_layer_tar(int layers_fd, const Digest& diff_id, sys::Root mounted) {
  const std::string name = std::string(diff_id.hex()) + ".tarsplit";
  auto file = sys::open_at(layers_fd, name, O_RDONLY | O_NOFOLLOW);
  if (!file.ok()) {
    return std::move(file.error()).context(fmt::format("layer {} can't be written as a tar", diff_id.str()));
  }
  bool has_overrides = false;
  TRY_ASSIGN(auto reader, RecordReader::open(std::move(*file), has_overrides));
  Overrides overrides;
  if (has_overrides) {
    TRY_ASSIGN(UniqueFd again, sys::open_at(layers_fd, name, O_RDONLY | O_NOFOLLOW));
    TRY_ASSIGN(overrides, collect_overrides(std::move(again), layers_fd));
  }
  TRY_ASSIGN(Hasher hasher, Hasher::create(diff_id.algorithm()));
  return std::unique_ptr<ByteSource>(
      new TarRebuilder(std::move(reader), std::move(overrides), std::move(mounted), std::move(hasher), diff_id));
}

Result<void> verify_layer(int layers_fd, const Digest& diff_id, sys::Root mounted) {
  TRY_ASSIGN(const auto tar, open_layer_tar(layers_fd, diff_id, std::move(mounted)));
  std::vector<std::byte> piece(kReadAhead);
  for (;;) {
    TRY_ASSIGN(const size_t got, tar->read(piece));
    if (got == 0) return {};
  }
}

}  // namespace hull::store
