#include "tar/changes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::tar {
namespace {

constexpr int kMaxDepth = 1024;
constexpr std::array<std::string_view, 6> kMountPoints = {"/dev",       "/proc",         "/sys",
                                                          "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"};

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

/// A folder that hides all that is below it.
bool is_opaque(int folder) {
  char value[8];
  return ::fgetxattr(folder, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

class Walk {
 public:
  explicit Walk(const ChangeTaker& take) : take_(take) {}

  /// `lower` is invalid where the image has no such folder.
  Result<void> folder(int upper, int lower, const std::string& path, int depth) {
    if (depth > kMaxDepth) return errorf(ErrorKind::kInvalid, "{:.100}...: nested more than {} deep", path, kMaxDepth);
    TRY_ASSIGN(std::vector<std::string> names, names_in(upper));
    std::vector<std::string> hidden;
    if (lower >= 0 && is_opaque(upper)) {
      TRY_ASSIGN(hidden, names_in(lower));
      std::erase_if(hidden,
                    [&](const std::string& name) { return std::binary_search(names.begin(), names.end(), name); });
    }
    names.insert(names.end(), hidden.begin(), hidden.end());
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      const std::string inner = path + "/" + name;
      if (std::find(hidden.begin(), hidden.end(), name) != hidden.end()) {
        TRY(tell(FileChange::Kind::kDeleted, inner));
      } else {
        TRY(entry(upper, lower, name, inner, depth));
      }
    }
    return {};
  }

 private:
  Result<void> tell(FileChange::Kind kind, const std::string& path) {
    for (std::string& folder : unsure_) TRY(take_({FileChange::Kind::kModified, std::move(folder)}));
    unsure_.clear();
    return take_({kind, path});
  }

  Result<void> entry(int upper, int lower, const std::string& name, const std::string& path, int depth) {
    struct stat now{}, before{};
    if (::fstatat(upper, name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return {};  // removed meanwhile
      return errnof("stat {}", path);
    }
    const bool existed = lower >= 0 && ::fstatat(lower, name.c_str(), &before, AT_SYMLINK_NOFOLLOW) == 0;
    if (is_whiteout(now)) return existed ? tell(FileChange::Kind::kDeleted, path) : Result<void>();
    const bool made_for_mounts =
        !existed && std::find(kMountPoints.begin(), kMountPoints.end(), path) != kMountPoints.end();
    if (made_for_mounts && (S_ISDIR(now.st_mode) || now.st_size == 0)) return {};
    const bool same_kind = existed && (now.st_mode & S_IFMT) == (before.st_mode & S_IFMT);
    const bool same_owner = now.st_mode == before.st_mode && now.st_uid == before.st_uid && now.st_gid == before.st_gid;
    const auto kind = existed ? FileChange::Kind::kModified : FileChange::Kind::kAdded;
    if (!S_ISDIR(now.st_mode)) {
      // Opened for writing and left as it was.
      const bool unchanged = same_kind && same_owner && now.st_size == before.st_size &&
                             now.st_mtim.tv_sec == before.st_mtim.tv_sec &&
                             now.st_mtim.tv_nsec == before.st_mtim.tv_nsec;
      return unchanged ? Result<void>() : tell(kind, path);
    }
    // A folder is only there because something in it is, or because it is another one now.
    const bool only_for_others = same_kind && same_owner;
    if (only_for_others) {
      unsure_.push_back(path);
    } else {
      TRY(tell(kind, path));
    }
    TRY_ASSIGN(const UniqueFd inside, sys::open_at(upper, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    UniqueFd below;
    if (same_kind) {
      TRY_ASSIGN(below, sys::open_at(lower, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    }
    TRY(folder(inside.get(), below.get(), path, depth + 1));
    if (only_for_others && !unsure_.empty()) unsure_.pop_back();
    return {};
  }

  const ChangeTaker& take_;
  std::vector<std::string> unsure_;  // folders on the way that nobody was told of: changed only if something in them is
};

}  // namespace

Result<void> for_each_change(const sys::Root& upper, const sys::Root& lower, const ChangeTaker& take) {
  TRY_ASSIGN(const UniqueFd from, upper.open_in("/", O_RDONLY | O_DIRECTORY));
  TRY_ASSIGN(const UniqueFd below, lower.open_in("/", O_RDONLY | O_DIRECTORY));
  return Walk(take).folder(from.get(), below.get(), "", 0);
}

Result<std::vector<FileChange>> layer_changes(const sys::Root& upper, const sys::Root& lower) {
  std::vector<FileChange> found;
  TRY(for_each_change(upper, lower, [&](FileChange&& change) {
    found.push_back(std::move(change));
    return Result<void>();
  }));
  return found;
}

Result<void> LayerWriter::add(const FileChange& change) {
  const std::string path = change.path.substr(1);
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? std::string() : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (change.kind == FileChange::Kind::kDeleted) {
    TarEntry whiteout;
    whiteout.path = (folder.empty() ? "" : folder + "/") + ".wh." + name;
    return writer_.begin(whiteout);
  }
  auto parent = upper_.open_without_links(folder, O_PATH | O_DIRECTORY);
  if (!parent.ok() && parent.error().error_number() == ENOENT) return {};  // removed meanwhile
  if (!parent.ok()) return std::move(parent).error();
  auto written = packer_.single(parent->get(), name, path);
  if (!written.ok() && written.error().error_number() == ENOENT) return {};
  return written;
}

Result<void> write_layer(const sys::Root& upper, const sys::Root& lower, const ByteSink& sink) {
  LayerWriter layer(upper, sink);
  TRY(for_each_change(upper, lower, [&](FileChange&& change) { return layer.add(change); }));
  return layer.finish();
}

}  // namespace hull::tar
