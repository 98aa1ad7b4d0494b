#include "tar/pack.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::tar {
namespace {

constexpr int kMaxDepth = 1024;
constexpr size_t kMaxAttributes = 64 << 10;

/// The way to what a descriptor pins that system calls take which want a path. Our own /proc: nothing of a container's.
std::string way_to(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

EntryType entry_type(mode_t mode) {
  if (S_ISDIR(mode)) return EntryType::kDirectory;
  if (S_ISLNK(mode)) return EntryType::kSymlink;
  if (S_ISCHR(mode)) return EntryType::kCharDevice;
  if (S_ISBLK(mode)) return EntryType::kBlockDevice;
  if (S_ISFIFO(mode)) return EntryType::kFifo;
  return EntryType::kFile;
}

/// Of users, and capabilities; what belongs to a host's security modules or to overlayfs stays where it is.
std::vector<Xattr> attributes_of(int fd) {
  std::vector<Xattr> found;
  const std::string path = way_to(fd);
  std::string names(kMaxAttributes, 0);
  const ssize_t length = ::listxattr(path.c_str(), names.data(), names.size());
  for (ssize_t at = 0; at < length;) {
    const std::string name(&names[static_cast<size_t>(at)]);
    at += static_cast<ssize_t>(name.size()) + 1;
    if (name != "security.capability" && !name.starts_with("user.")) continue;
    std::string value(kMaxAttributes, 0);
    const ssize_t got = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (got < 0) continue;
    value.resize(static_cast<size_t>(got));
    found.push_back({name, std::move(value)});
  }
  return found;
}

}  // namespace

Result<std::vector<std::string>> names_in(int dir_fd) {
  TRY_ASSIGN(UniqueFd again, sys::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  DIR* const stream = ::fdopendir(again.get());
  if (stream == nullptr) return errno_error("read a folder");
  static_cast<void>(again.release());
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* one = ::readdir(stream)) {
    const std::string_view name = one->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

Result<Pinned> pin(int dir_fd, const std::string& name) {
  Pinned file;
  TRY_ASSIGN(file.fd, sys::open_at(dir_fd, name, O_PATH | O_NOFOLLOW));
  if (::fstat(file.fd.get(), &file.info) != 0) return errnof("stat {}", name);
  struct statx more{};
  if (::statx(file.fd.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &more) == 0) file.mount_id = more.stx_mnt_id;
  return file;
}

Result<UniqueFd> open_pinned(const Pinned& file) {
  if (S_ISDIR(file.info.st_mode)) return sys::open_at(file.fd.get(), ".", O_RDONLY | O_DIRECTORY);
  if (!S_ISREG(file.info.st_mode)) return errorf(ErrorKind::kInternal, "open what is neither file nor folder");
  return sys::open(way_to(file.fd.get()), O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

Result<std::string> link_target(const Pinned& file) {
  std::string link(4097, 0);
  const ssize_t length = ::readlinkat(file.fd.get(), "", link.data(), link.size() - 1);
  if (length < 0) return errno_error("read a link");
  link.resize(static_cast<size_t>(length));
  return link;
}

Result<void> Packer::content(const Pinned& file) {
  TRY_ASSIGN(const UniqueFd fd, open_pinned(file));
  std::vector<char> buffer(std::clamp<size_t>(static_cast<size_t>(file.info.st_size), 4096, 1 << 20));
  auto left = static_cast<uint64_t>(file.info.st_size);
  while (left > 0) {
    const ssize_t got = ::read(fd.get(), buffer.data(), std::min<uint64_t>(left, buffer.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("read");
    if (got == 0) break;
    TRY(writer_.data(std::string_view(buffer.data(), static_cast<size_t>(got))));
    left -= static_cast<uint64_t>(got);
  }
  return writer_.end();
}

Result<void> Packer::write(const Pinned& file, const std::string& as, bool with_content) {
  TarEntry entry;
  entry.type = entry_type(file.info.st_mode);
  entry.path = as;
  entry.mode = static_cast<uint16_t>(file.info.st_mode & 07777);
  entry.uid = file.info.st_uid;
  entry.gid = file.info.st_gid;
  entry.mtime = file.info.st_mtim.tv_sec;
  entry.mtime_ns = static_cast<uint32_t>(file.info.st_mtim.tv_nsec);
  if (entry.type == EntryType::kSymlink) {
    TRY_ASSIGN(entry.link, link_target(file));
  }
  if (entry.type == EntryType::kCharDevice || entry.type == EntryType::kBlockDevice) {
    entry.dev_major = ::major(file.info.st_rdev);
    entry.dev_minor = ::minor(file.info.st_rdev);
  }
  if (file.info.st_nlink > 1 && entry.type != EntryType::kDirectory && with_content) {
    const auto [it, fresh] = links_.try_emplace({file.info.st_dev, file.info.st_ino}, as);
    if (!fresh) {
      entry.type = EntryType::kHardLink;
      entry.link = it->second;
      return writer_.begin(entry);
    }
  }
  if (entry.type != EntryType::kSymlink) entry.xattrs = attributes_of(file.fd.get());
  if (entry.type == EntryType::kFile && with_content) entry.size = static_cast<uint64_t>(file.info.st_size);
  TRY(writer_.begin(entry));
  if (entry.type == EntryType::kFile && with_content) return content(file);
  return {};
}

Result<void> Packer::below(const Pinned& folder, const std::string& as, int depth) {
  if (depth > kMaxDepth) return errorf(ErrorKind::kInvalid, "{:.100}...: nested more than {} deep", as, kMaxDepth);
  TRY_ASSIGN(const UniqueFd open, open_pinned(folder));
  TRY_ASSIGN(const std::vector<std::string> names, names_in(open.get()));
  for (const std::string& name : names) {
    auto found = pin(open.get(), name);
    if (!found.ok() && found.error().error_number() == ENOENT) continue;  // removed meanwhile
    if (!found.ok()) return std::move(found).error();
    if (S_ISSOCK(found->info.st_mode)) continue;
    const std::string inner = as.empty() ? name : as + "/" + name;
    const bool elsewhere = options_.same_mount && found->mount_id != top_mount_;
    TRY(write(*found, inner, !elsewhere).context(inner));
    if (S_ISDIR(found->info.st_mode) && !elsewhere) TRY(below(*found, inner, depth + 1));
  }
  return {};
}

Result<void> Packer::tree(int dir_fd, const std::string& name, const std::string& as) {
  TRY_ASSIGN(const Pinned top, pin(dir_fd, name));
  top_mount_ = top.mount_id;
  if (S_ISSOCK(top.info.st_mode)) return errorf(ErrorKind::kUnsupported, "{} is a socket: it can't be copied", name);
  if (!as.empty()) TRY(write(top, as, true).context(as));
  if (S_ISDIR(top.info.st_mode)) return below(top, as == "/" ? "" : as, 0);
  return {};
}

Result<void> Packer::single(int dir_fd, const std::string& name, const std::string& as) {
  TRY_ASSIGN(const Pinned file, pin(dir_fd, name));
  if (S_ISSOCK(file.info.st_mode)) return {};
  return write(file, as, true).context(as);
}

}  // namespace hull::tar
