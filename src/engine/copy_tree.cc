#include "engine/copy_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "base/error_format.h"
#include "base/unique_fd.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr int kMaxDepth = 512;

class Copier {
 public:
  explicit Copier(int target_root) : target_root_(target_root) {}

  Result<void> folder(int from, int to, const std::string& path, int depth) {
    if (depth > kMaxDepth) return errorf(ErrorKind::kInvalid, "copy {}: nested more than {} deep", path, kMaxDepth);
    TRY_ASSIGN(const std::vector<std::string> names, list(from, path));
    for (const std::string& name : names) {
      std::string inner = path;
      if (!inner.empty()) inner += '/';
      inner += name;
      TRY(entry(from, to, name, inner, depth));
    }
    struct stat info{};
    if (::fstat(from, &info) != 0) return errnof("stat {}", path);
    TRY(attributes(from, to, path));
    if (::fchown(to, info.st_uid, info.st_gid) != 0) return errnof("chown {}", path);
    if (::fchmod(to, info.st_mode & 07777) != 0) return errnof("chmod {}", path);
    const timespec times[2] = {info.st_atim, info.st_mtim};
    ::futimens(to, times);
    return {};
  }

 private:
  static Result<std::vector<std::string>> list(int folder, const std::string& path) {
    TRY_ASSIGN(UniqueFd again, sys::open_at(folder, ".", O_RDONLY | O_DIRECTORY));
    DIR* stream = ::fdopendir(again.get());
    if (stream == nullptr) return errnof("read folder {}", path);
    static_cast<void>(again.release());
    std::vector<std::string> names;
    while (const dirent* one = ::readdir(stream)) {
      const std::string_view name = one->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    ::closedir(stream);
    return names;
  }

  Result<void> entry(int from, int to, const std::string& name, const std::string& path, int depth) {
    struct stat info{};
    if (::fstatat(from, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return errnof("stat {}", path);
    if (S_ISDIR(info.st_mode)) {
      TRY_ASSIGN(const UniqueFd source, sys::open_at(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      if (::mkdirat(to, name.c_str(), 0700) != 0) return errnof("make folder {}", path);
      TRY_ASSIGN(const UniqueFd target, sys::open_at(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return folder(source.get(), target.get(), path, depth + 1);
    }
    if (info.st_nlink > 1) {
      const auto [it, fresh] = links_.try_emplace({info.st_dev, info.st_ino}, path);
      if (!fresh) {
        if (::linkat(target_root_, it->second.c_str(), to, name.c_str(), 0) != 0) return errnof("link {}", path);
        return {};
      }
    }
    if (S_ISLNK(info.st_mode)) {
      std::string link(4097, 0);
      const ssize_t length = ::readlinkat(from, name.c_str(), link.data(), link.size() - 1);
      if (length < 0) return errnof("read link {}", path);
      link.resize(static_cast<size_t>(length));
      if (::symlinkat(link.c_str(), to, name.c_str()) != 0) return errnof("make link {}", path);
      if (::fchownat(to, name.c_str(), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return errnof("chown {}", path);
      }
      const timespec times[2] = {info.st_atim, info.st_mtim};
      ::utimensat(to, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
      return {};
    }
    if (!S_ISREG(info.st_mode)) {
      if (S_ISSOCK(info.st_mode)) return {};
      if (::mknodat(to, name.c_str(), (info.st_mode & S_IFMT) | 0600, info.st_rdev) != 0)
        return errnof("make {}", path);
      if (::fchownat(to, name.c_str(), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0 ||
          ::fchmodat(to, name.c_str(), info.st_mode & 07777, 0) != 0) {
        return errnof("set the owner of {}", path);
      }
      return {};
    }
    return file(from, to, name, path, info);
  }

  static Result<void> file(int from, int to, const std::string& name, const std::string& path,
                           const struct stat& info) {
    TRY_ASSIGN(const UniqueFd source, sys::open_at(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    TRY_ASSIGN(const UniqueFd target, sys::open_at(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    off_t left = info.st_size;
    while (left > 0) {
      const ssize_t copied = ::copy_file_range(source.get(), nullptr, target.get(), nullptr,
                                               static_cast<size_t>(std::min<off_t>(left, 1 << 30)), 0);
      if (copied < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
        char buffer[64 * 1024];
        ssize_t got = 0;
        while ((got = ::read(source.get(), buffer, sizeof buffer)) > 0) {
          TRY(sys::write_all(target.get(), std::string_view(buffer, static_cast<size_t>(got))).context(path));
        }
        if (got < 0) return errnof("read {}", path);
        break;
      }
      if (copied < 0) return errnof("copy {}", path);
      if (copied == 0) break;
      left -= copied;
    }
    if (::fchown(target.get(), info.st_uid, info.st_gid) != 0) return errnof("chown {}", path);
    TRY(attributes(source.get(), target.get(), path));
    if (::fchmod(target.get(), info.st_mode & 07777) != 0) return errnof("chmod {}", path);
    const timespec times[2] = {info.st_atim, info.st_mtim};
    ::futimens(target.get(), times);
    return {};
  }

  /// Extended attributes, but for overlayfs's own.
  static Result<void> attributes(int from, int to, const std::string& path) {
    const ssize_t size = ::flistxattr(from, nullptr, 0);
    if (size <= 0) return {};
    std::vector<char> names(static_cast<size_t>(size));
    const ssize_t length = ::flistxattr(from, names.data(), names.size());
    for (ssize_t at = 0; at < length;) {
      const std::string name(&names[static_cast<size_t>(at)]);
      at += static_cast<ssize_t>(name.size()) + 1;
      if (name.starts_with("trusted.overlay.")) continue;
      std::vector<char> value(64 * 1024);
      const ssize_t got = ::fgetxattr(from, name.c_str(), value.data(), value.size());
      if (got < 0) continue;
      if (::fsetxattr(to, name.c_str(), value.data(), static_cast<size_t>(got), 0) != 0 && errno != EOPNOTSUPP) {
        return errnof("attribute {} of {}", name, path);
      }
    }
    return {};
  }

  int target_root_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

}  // namespace

Result<void> copy_tree(int from, int to) { return Copier(to).folder(from, to, "", 0); }

}  // namespace hull::engine
