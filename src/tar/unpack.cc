#include "tar/unpack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::tar {
namespace {

constexpr size_t kMaxFolderTimes = 1 << 20;

Result<void> write_at(int fd, const char* data, size_t size, uint64_t at) {
  while (size > 0) {
    const ssize_t done = ::pwrite(fd, data, size, static_cast<off_t>(at));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno_error("write");
    data += done;
    size -= static_cast<size_t>(done);
    at += static_cast<uint64_t>(done);
  }
  return {};
}

mode_t node_type(EntryType type) {
  if (type == EntryType::kCharDevice) return S_IFCHR;
  if (type == EntryType::kBlockDevice) return S_IFBLK;
  return S_IFIFO;
}

}  // namespace

/// Without "." and empty components; rebased.
Result<std::string> Unpacker::cleaned(const std::string& path) const {
  std::string out;
  size_t at = 0;
  while (at < path.size()) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = std::string_view(path).substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..")
      return errorf(ErrorKind::kInvalid, "the archive's entry \"{:.200}\" leads out of its folder", path);
    if (!out.empty()) out += '/';
    out += part;
  }
  if (options_.rebase_to.empty()) return out;
  const std::string& from = options_.rebase_from;
  if (from.empty()) return out.empty() ? options_.rebase_to : options_.rebase_to + "/" + out;
  if (out == from) return options_.rebase_to;
  if (out.size() > from.size() && out.starts_with(from) && out[from.size()] == '/') {
    return options_.rebase_to + out.substr(from.size());
  }
  return out;
}

Result<UniqueFd> Unpacker::open_folder(const std::string& path) const {
  const std::string full = base_ + "/" + path;
  return options_.follow_links ? root_.open_in(full, O_PATH | O_DIRECTORY)
                               : root_.open_without_links(full, O_PATH | O_DIRECTORY);
}

/// A folder that may have to be made: archives leave out the entries of folders.
Result<UniqueFd> Unpacker::folder_at(const std::string& path) const {
  auto opened = open_folder(path);
  if (opened.ok() || opened.error().error_number() != ENOENT) return opened;
  if (options_.follow_links) return root_.make_dirs(base_ + "/" + path);
  TRY_ASSIGN(const Place place, place_of(path));
  if (::mkdirat(place.parent.get(), place.name.c_str(), 0755) != 0 && errno != EEXIST) {
    return errnof("make folder {}", path);
  }
  return open_folder(path);
}

Result<Unpacker::Place> Unpacker::place_of(const std::string& path) const {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? std::string() : path.substr(0, slash);
  TRY_ASSIGN(UniqueFd parent, folder_at(folder));
  return Place{std::move(parent), slash == std::string::npos ? path : path.substr(slash + 1)};
}

/// Takes away what is in the entry's place. True: a folder is there and stays.
Result<bool> Unpacker::make_way(const Place& place, const TarEntry& entry) const {
  struct stat there{};
  if (::fstatat(place.parent.get(), place.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return errnof("stat {}", entry.path);
  }
  const bool was_folder = S_ISDIR(there.st_mode), is_folder = entry.type == EntryType::kDirectory;
  if (was_folder && is_folder) return true;
  if (options_.no_overwrite_dir_non_dir && was_folder != is_folder) {
    return errorf(ErrorKind::kConflict, "cannot overwrite {} \"{}\" with {} \"{}\"",
                  was_folder ? "directory" : "non-directory", entry.path, is_folder ? "directory" : "non-directory",
                  entry.path);
  }
  if (was_folder) {
    TRY(sys::remove_tree_at(place.parent.get(), place.name));
  } else if (::unlinkat(place.parent.get(), place.name.c_str(), 0) != 0 && errno != ENOENT) {
    return errnof("replace {}", entry.path);
  }
  return false;
}

std::pair<uid_t, gid_t> Unpacker::owner_of(const TarEntry& entry) const {
  if (options_.owner) return *options_.owner;
  if (options_.keep_owner) return {entry.uid, entry.gid};
  return {::geteuid(), ::getegid()};
}

mode_t Unpacker::mode_of(const TarEntry& entry) const {
  return entry.mode & (options_.keep_owner || options_.owner ? 07777U : 01777U);
}

/// Owner, then attributes (a change of owner drops capabilities), then mode.
Result<void> Unpacker::attributes(int fd, const TarEntry& entry) const {
  const auto [uid, gid] = owner_of(entry);
  if (::fchown(fd, uid, gid) != 0) return errnof("chown {}", entry.path);
  for (const Xattr& attribute : entry.xattrs) {
    const bool wanted =
        attribute.name.starts_with("user.") || (attribute.name == "security.capability" && options_.keep_owner);
    if (!wanted) continue;
    if (::fsetxattr(fd, attribute.name.c_str(), attribute.value.data(), attribute.value.size(), 0) != 0 &&
        errno != EOPNOTSUPP && errno != EPERM) {
      return errnof("set {} of {}", attribute.name, entry.path);
    }
  }
  if (::fchmod(fd, mode_of(entry)) != 0) return errnof("chmod {}", entry.path);
  return {};
}

Result<void> Unpacker::make_hard_link(const Place& place, const TarEntry& entry) const {
  TRY_ASSIGN(const std::string target, cleaned(entry.link));
  if (target.empty()) return errorf(ErrorKind::kInvalid, "{}: a hard link to nothing", entry.path);
  TRY_ASSIGN(const Place from, place_of(target));
  if (::linkat(from.parent.get(), from.name.c_str(), place.parent.get(), place.name.c_str(), 0) != 0) {
    return errnof("link {} to {}", entry.path, target);
  }
  return {};
}

Result<void> Unpacker::make(const Place& place, const TarEntry& entry) {
  const int parent = place.parent.get();
  const char* const name = place.name.c_str();
  const auto [uid, gid] = owner_of(entry);
  const timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime, static_cast<long>(entry.mtime_ns)}};
  switch (entry.type) {
    case EntryType::kHardLink:
      return make_hard_link(place, entry);
    case EntryType::kSymlink:
      if (::symlinkat(entry.link.c_str(), parent, name) != 0) return errnof("make link {}", entry.path);
      if (::fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0) return errnof("chown {}", entry.path);
      ::utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
      return {};
    case EntryType::kCharDevice:
    case EntryType::kBlockDevice:
    case EntryType::kFifo: {
      if (!options_.devices && entry.type != EntryType::kFifo) {
        return errorf(ErrorKind::kUnsupported, "{} is a device node: it is not made on this machine", entry.path);
      }
      const dev_t device = ::makedev(entry.dev_major, entry.dev_minor);
      if (::mknodat(parent, name, node_type(entry.type) | 0600, device) != 0) return errnof("make {}", entry.path);
      TRY_ASSIGN(const UniqueFd node, sys::open_at(parent, place.name, O_PATH | O_NOFOLLOW));
      struct stat made{};
      if (::fstat(node.get(), &made) != 0 || (made.st_mode & S_IFMT) != node_type(entry.type)) {
        return errorf(ErrorKind::kConflict, "{} was replaced while it was made", entry.path);
      }
      if (::fchownat(node.get(), "", uid, gid, AT_EMPTY_PATH) != 0) return errnof("chown {}", entry.path);
      const std::string way = fmt::format("/proc/self/fd/{}", node.get());
      if (::chmod(way.c_str(), mode_of(entry)) != 0) return errnof("chmod {}", entry.path);
      ::utimensat(AT_FDCWD, way.c_str(), times, 0);
      return {};
    }
    case EntryType::kDirectory:
      return errorf(ErrorKind::kInternal, "a folder comes another way");
    case EntryType::kFile:
      break;
  }
  TRY_ASSIGN(file_, sys::open_at(parent, place.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  entry_ = entry;
  position_ = extent_done_ = 0;
  extent_ = 0;
  return {};
}

Result<void> Unpacker::on_entry(TarEntry& entry) {
  file_.reset();
  TRY_ASSIGN(const std::string path, cleaned(entry.path));
  if (path.empty()) return {};  // the folder itself
  TRY_ASSIGN(const Place place, place_of(path));
  TRY_ASSIGN(const bool kept, make_way(place, entry));
  if (entry.type != EntryType::kDirectory) return make(place, entry);
  if (!kept && ::mkdirat(place.parent.get(), place.name.c_str(), 0700) != 0) return errnof("make folder {}", path);
  TRY_ASSIGN(const UniqueFd folder, sys::open_at(place.parent.get(), place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(attributes(folder.get(), entry));
  if (folders_.size() < kMaxFolderTimes) folders_.push_back({path, {entry.mtime, static_cast<long>(entry.mtime_ns)}});
  return {};
}

Result<void> Unpacker::on_data(std::span<const std::byte> bytes) {
  if (!file_) return {};
  const char* data = reinterpret_cast<const char*>(bytes.data());
  size_t left = bytes.size();
  if (!entry_.sparse) {
    TRY(write_at(file_.get(), data, left, position_).context(entry_.path));
    position_ += left;
    return {};
  }
  while (left > 0 && extent_ < entry_.extents.size()) {
    const Extent& extent = entry_.extents[extent_];
    const auto count = static_cast<size_t>(std::min<uint64_t>(left, extent.length - extent_done_));
    TRY(write_at(file_.get(), data, count, extent.offset + extent_done_).context(entry_.path));
    data += count;
    left -= count;
    extent_done_ += count;
    if (extent_done_ == extent.length) {
      ++extent_;
      extent_done_ = 0;
    }
  }
  return {};
}

Result<void> Unpacker::on_entry_end() {
  if (!file_) return {};
  if (entry_.sparse && ::ftruncate(file_.get(), static_cast<off_t>(entry_.size)) != 0) {
    return errnof("write {}", entry_.path);
  }
  TRY(attributes(file_.get(), entry_));
  const timespec times[2] = {{0, UTIME_OMIT}, {entry_.mtime, static_cast<long>(entry_.mtime_ns)}};
  ::futimens(file_.get(), times);
  file_.reset();
  return {};
}

void Unpacker::finish() {
  for (auto it = folders_.rbegin(); it != folders_.rend(); ++it) {
    auto place = place_of(it->path);
    if (!place.ok()) continue;
    auto folder = sys::open_at(place->parent.get(), place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!folder.ok()) continue;
    const timespec times[2] = {{0, UTIME_OMIT}, it->time};
    ::futimens(folder->get(), times);
  }
}

ByteSource source_of(int fd) {
  return [fd](char* buffer, size_t size) -> Result<size_t> {
    for (;;) {
      const ssize_t got = ::read(fd, buffer, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return errno_error("read the archive");
    }
  };
}

Result<void> unpack(const ByteSource& source, Unpacker& unpacker) {
  static constexpr std::string_view kMagics[] = {"\x1f\x8b", "BZh", "\xfd\x37zXZ", "\x28\xb5\x2f\xfd"};
  TarReader reader(unpacker, {});
  std::vector<char> buffer(256 << 10);
  for (bool first = true;; first = false) {
    TRY_ASSIGN(const size_t got, source(buffer.data(), buffer.size()));
    if (got == 0) break;
    const std::string_view head(buffer.data(), got);
    if (first && std::any_of(std::begin(kMagics), std::end(kMagics), [&](auto m) { return head.starts_with(m); })) {
      return errorf(ErrorKind::kUnsupported, "the archive is compressed: decompress it on the way (zcat, xzcat ...)");
    }
    TRY(reader.feed(std::as_bytes(std::span(buffer.data(), got))));
  }
  TRY(reader.finish());
  unpacker.finish();
  return {};
}

}  // namespace hull::tar
