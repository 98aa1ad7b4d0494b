#include "store/archive/archive_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error_format.h"
#include "store/layer/decompress.h"
#include "store/layer/tar_reader.h"
#include "store/registry/http_answers.h"
#include "sys/file.h"

namespace hull::store {
namespace {

constexpr size_t kBuffer = 1 << 20;
constexpr size_t kMaxMembers = 100000;
constexpr int kMaxLinks = 8;

Error no_member(std::string_view name) {
  return errorf(ErrorKind::kInvalid, "archive: it has no member \"{}\"", printable_line(name, 200));
}

/// [offset, end) of a file that stays open.
class RangeSource final : public ByteSource {
 public:
  RangeSource(int fd, uint64_t offset, uint64_t end) : fd_(fd), offset_(offset), end_(end) {}
  Result<size_t> read(std::span<std::byte> into) override {
    const size_t want = std::min<uint64_t>(into.size(), end_ - offset_);
    if (want == 0) return size_t{0};
    ssize_t got = -1;
    do {
      got = ::pread(fd_, into.data(), want, static_cast<off_t>(offset_));
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno_error("read archive");
    if (got == 0) return errorf(ErrorKind::kCorrupt, "archive: it became shorter while it was read");
    offset_ += static_cast<uint64_t>(got);
    return static_cast<size_t>(got);
  }

 private:
  int fd_;
  uint64_t offset_, end_;
};

class TarMembers final : public MemberSource, public TarHandler {
 public:
  explicit TarMembers(UniqueFd fd, uint64_t base) : fd_(std::move(fd)), position_(base) {}

  // Indexing.
  Result<void> on_raw(std::span<const std::byte> bytes) override {
    position_ += bytes.size();
    return {};
  }
  Result<void> on_entry(TarEntry& entry) override {
    name_ = sys::clean_path(entry.path);
    if (members_.size() >= kMaxMembers) {
      return errorf(ErrorKind::kInvalid, "archive: more than {} members", kMaxMembers);
    }
    current_ = Member{};
    current_.size = entry.stored_size;
    current_.is_file = entry.type == EntryType::kFile && !entry.sparse;
    if (entry.type == EntryType::kSymlink) {
      const size_t slash = name_.rfind('/');
      current_.link = sys::clean_path((slash == std::string::npos ? "" : name_.substr(0, slash + 1)) + entry.link);
    } else if (entry.type == EntryType::kHardLink) {
      current_.link = sys::clean_path(entry.link);
    }
    begun_ = false;
    return {};
  }
  Result<void> on_data(std::span<const std::byte> bytes) override {
    if (!begun_) current_.offset = position_;
    begun_ = true;
    position_ += bytes.size();
    return {};
  }
  Result<void> on_entry_end() override {
    members_[name_] = current_;
    return {};
  }

  // Reading.
  bool has(std::string_view name) const override { return find(name).ok(); }
  Result<uint64_t> size(std::string_view name) const override {
    TRY_ASSIGN(const Member member, find(name));
    return member.size;
  }
  Result<std::unique_ptr<ByteSource>> open(std::string_view name) const override {
    TRY_ASSIGN(const Member member, find(name));
    return std::unique_ptr<ByteSource>(
        std::make_unique<RangeSource>(fd_.get(), member.offset, member.offset + member.size));
  }
  Result<std::string> read(std::string_view name, size_t limit) const override {
    TRY_ASSIGN(const Member member, find(name));
    if (member.size > limit) {
      return errorf(ErrorKind::kInvalid, "archive: member \"{}\" has {} bytes, the limit is {}",
                    printable_line(name, 200), member.size, limit);
    }
    RangeSource source(fd_.get(), member.offset, member.offset + member.size);
    std::string out(member.size, '\0');
    TRY_ASSIGN(const size_t got, read_full(source, std::as_writable_bytes(std::span(out))));
    out.resize(got);
    return out;
  }

  int fd() const { return fd_.get(); }

 private:
  struct Member {
    uint64_t offset = 0, size = 0;
    bool is_file = false;
    std::string link;  // another member's name
  };
  Result<Member> find(std::string_view name) const {
    std::string wanted = sys::clean_path(name);
    for (int i = 0; i < kMaxLinks; ++i) {
      const auto it = members_.find(wanted);
      if (it == members_.end()) return no_member(name);
      if (it->second.link.empty()) {
        if (!it->second.is_file) return no_member(name);
        return it->second;
      }
      wanted = it->second.link;
    }
    return errorf(ErrorKind::kInvalid, "archive: member \"{}\" is a link that leads in a circle",
                  printable_line(name, 200));
  }

  UniqueFd fd_;
  uint64_t position_;
  std::string name_;
  Member current_;
  bool begun_ = false;
  std::map<std::string, Member> members_;
};

class FolderMembers final : public MemberSource {
 public:
  explicit FolderMembers(sys::Root root) : root_(std::move(root)) {}
  bool has(std::string_view name) const override { return open_file(name).ok(); }
  Result<std::string> read(std::string_view name, size_t limit) const override { return root_.read_file(name, limit); }
  Result<uint64_t> size(std::string_view name) const override {
    TRY_ASSIGN(const UniqueFd fd, open_file(name));
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return errno_error("stat layout member");
    return static_cast<uint64_t>(info.st_size);
  }
  Result<std::unique_ptr<ByteSource>> open(std::string_view name) const override {
    TRY_ASSIGN(UniqueFd fd, open_file(name));
    return std::unique_ptr<ByteSource>(std::make_unique<OwningSource>(std::move(fd)));
  }

 private:
  class OwningSource final : public ByteSource {
   public:
    explicit OwningSource(UniqueFd fd) : fd_(std::move(fd)), source_(fd_.get()) {}
    Result<size_t> read(std::span<std::byte> into) override { return source_.read(into); }

   private:
    UniqueFd fd_;
    FdSource source_;
  };
  Result<UniqueFd> open_file(std::string_view name) const {
    // O_NONBLOCK: a fifo in somebody's folder must not hold us.
    TRY_ASSIGN(UniqueFd fd, root_.open_in(name, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return errno_error("stat layout member");
    if (!S_ISREG(info.st_mode)) return no_member(name);
    return fd;
  }
  sys::Root root_;
};

/// What was looked at already, then the rest.
class PrefixedSource final : public ByteSource {
 public:
  PrefixedSource(std::vector<std::byte> prefix, int fd) : prefix_(std::move(prefix)), rest_(fd) {}
  Result<size_t> read(std::span<std::byte> into) override {
    if (used_ < prefix_.size()) {
      const size_t count = std::min(into.size(), prefix_.size() - used_);
      std::copy_n(prefix_.begin() + static_cast<ptrdiff_t>(used_), count, into.begin());
      used_ += count;
      return count;
    }
    return rest_.read(into);
  }

 private:
  std::vector<std::byte> prefix_;
  size_t used_ = 0;
  FdSource rest_;
};

}  // namespace

Result<std::unique_ptr<MemberSource>> open_archive(UniqueFd fd, const std::string& name,
                                                   const std::string& spool_folder, uint64_t limit) {
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errnof("archive {}", name);
  if (S_ISDIR(info.st_mode)) return errorf(ErrorKind::kInvalid, "archive {}: it is a folder", name);
  const off_t start = S_ISREG(info.st_mode) ? ::lseek(fd.get(), 0, SEEK_CUR) : -1;
  std::vector<std::byte> head(6);
  {
    FdSource source(fd.get());
    TRY_ASSIGN(const size_t got, read_full(source, head));
    head.resize(got);
  }
  if (head.empty()) return errorf(ErrorKind::kInvalid, "archive {}: it is empty", name);
  const LayerCompression compression = sniff_compression(head);
  const bool in_place = start >= 0 && compression == LayerCompression::kNone;

  std::optional<PrefixedSource> from_pipe;
  std::unique_ptr<ByteSource> unpacked;
  ByteSource* source = nullptr;
  UniqueFd spool;
  int reading_fd = fd.get();
  from_pipe.emplace(std::move(head), reading_fd);
  source = &*from_pipe;
  if (!in_place) {
    if (compression != LayerCompression::kNone) {
      TRY_ASSIGN(unpacked, decompressed(*source, compression));
      source = unpacked.get();
    }
    TRY_ASSIGN(spool, sys::open(spool_folder, O_TMPFILE | O_RDWR, 0600));
  }
  UniqueFd input = std::move(fd);  // stays open for `source`
  auto members =
      std::make_unique<TarMembers>(in_place ? UniqueFd(::fcntl(input.get(), F_DUPFD_CLOEXEC, 0)) : std::move(spool),
                                   in_place ? static_cast<uint64_t>(start) : 0);
  TarReaderLimits limits;
  limits.max_entries = kMaxMembers;
  TarReader reader(*members, limits);
  std::vector<std::byte> buffer(kBuffer);
  uint64_t total = 0;
  while (true) {
    auto piece_or_error = source->read(buffer);
    if (!piece_or_error.ok()) return std::move(piece_or_error).error().context(fmt::format("archive {}", name));
    const size_t got = *piece_or_error;
    if (got == 0) break;
    total += got;
    if (total > limit) {
      return errorf(ErrorKind::kInvalid, "archive {}: it has more than {} bytes (hull.toml: limits.max_image_bytes)",
                    name, limit);
    }
    const auto piece = std::span<const std::byte>(buffer).first(got);
    auto fed = reader.feed(piece);
    if (!fed.ok()) return std::move(fed).error().context(fmt::format("archive {}", name));
    if (!in_place) {
      TRY(sys::write_all(members->fd(), std::string_view(reinterpret_cast<const char*>(piece.data()), got))
              .context("write the temporary copy of the archive"));
    }
  }
  auto ended = reader.finish();
  if (!ended.ok()) return std::move(ended).error().context(fmt::format("archive {}", name));
  return std::unique_ptr<MemberSource>(std::move(members));
}

Result<std::unique_ptr<MemberSource>> open_layout_folder(const std::string& path) {
  TRY_ASSIGN(sys::Root root, sys::Root::open(path));
  return std::unique_ptr<MemberSource>(std::make_unique<FolderMembers>(std::move(root)));
}

}  // namespace hull::store
