#include "tar/path_access.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/error_format.h"
#include "tar/pack.h"

namespace hull::tar {
namespace {

constexpr int kMaxLinks = 40;

/// A path taken apart: the folder, whose links are followed inside the root, and the last name, which is not.
/// "a/." and "a/.." and "/" name the folder itself.
struct Target {
  UniqueFd folder;
  std::string name;  // "." for the folder itself
  std::string base;  // what the entry is called in an archive
};

Error not_there(const Error& error, std::string_view path, const std::string& container) {
  if (error.error_number() == ENOENT) {
    return errorf(ErrorKind::kNotFound, "Could not find the file {} in container {}", path, container);
  }
  if (error.error_number() == ENOTDIR) {
    return errorf(ErrorKind::kInvalid, "{} in container {}: not a directory", path, container);
  }
  return error;
}

Result<Target> open_target(const sys::Root& root, std::string_view path) {
  const bool itself = path.ends_with("/.") || path == "." || path.empty();
  std::string_view trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.remove_suffix(1);
  const std::string clean = sys::clean_path(trimmed);
  const bool whole = itself || trimmed.ends_with("..") || clean.empty() || trimmed == "/";
  Target target;
  if (whole) {
    TRY_ASSIGN(target.folder, root.open_in(trimmed, O_PATH | O_DIRECTORY));
    target.name = ".";
    target.base = itself ? "." : clean.empty() ? "/" : clean.substr(clean.rfind('/') + 1);
    return target;
  }
  TRY_ASSIGN(sys::Root::Parent parent, root.open_parent(trimmed, false));
  target.folder = std::move(parent.fd);
  target.name = parent.name;
  target.base = std::move(parent.name);
  // "link/" is the folder that the link leads to.
  if (path.ends_with('/')) {
    TRY_ASSIGN(target.folder, root.open_in(trimmed, O_PATH | O_DIRECTORY));
    target.name = ".";
  }
  return target;
}

/// Where a link leads, followed by text; what is on the way is looked up by whoever opens it.
std::string follow(const sys::Root& root, std::string path, const Pinned& first) {
  auto link = link_target(first);
  for (int i = 0; i < kMaxLinks && link.ok(); ++i) {
    const std::string folder = path.substr(0, path.rfind('/') + 1);
    path = "/" + sys::clean_path(link->starts_with('/') ? *link : folder + *link);
    auto next = open_target(root, path);
    if (!next.ok()) break;
    auto pinned = pin(next->folder.get(), next->name);
    if (!pinned.ok() || !S_ISLNK(pinned->info.st_mode)) break;
    link = link_target(*pinned);
  }
  return path;
}

PathStat stat_of(const sys::Root& root, std::string_view path, const Target& target, const Pinned& pinned) {
  PathStat out;
  out.name = target.base;
  out.size = static_cast<uint64_t>(pinned.info.st_size);
  out.mode = pinned.info.st_mode;
  out.modified = std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::seconds(pinned.info.st_mtim.tv_sec) + std::chrono::nanoseconds(pinned.info.st_mtim.tv_nsec)));
  if (S_ISLNK(pinned.info.st_mode)) out.link_target = follow(root, "/" + sys::clean_path(path), pinned);
  return out;
}

}  // namespace

Result<PathStat> path_stat(const sys::Root& root, std::string_view path, const std::string& whose) {
  auto target = open_target(root, path);
  if (!target.ok()) return not_there(target.error(), path, whose);
  auto pinned = pin(target->folder.get(), target->name);
  if (!pinned.ok()) return not_there(pinned.error(), path, whose);
  return stat_of(root, path, *target, *pinned);
}

Result<void> path_get(const sys::Root& root, std::string_view path, const std::string& whose,
                      const std::function<Result<void>(const PathStat&)>& on_stat, const ByteSink& sink) {
  auto target = open_target(root, path);
  if (!target.ok()) return not_there(target.error(), path, whose);
  auto pinned = pin(target->folder.get(), target->name);
  if (!pinned.ok()) return not_there(pinned.error(), path, whose);
  TRY(on_stat(stat_of(root, path, *target, *pinned)));
  TarWriter writer(sink);
  Packer packer(writer, {});
  TRY(packer.tree(target->folder.get(), target->name, target->base));
  return writer.finish();
}

Result<void> path_put(const sys::Root& root, std::string_view path, const std::string& whose, UnpackOptions options,
                      const ByteSource& source) {
  auto folder = root.open_in(path, O_PATH);
  if (!folder.ok()) return not_there(folder.error(), path, whose);
  struct stat info{};
  if (::fstat(folder->get(), &info) != 0) return errnof("stat {}", path);
  if (!S_ISDIR(info.st_mode)) return errorf(ErrorKind::kInvalid, "extraction point is not a directory");
  Unpacker unpacker(root, std::string(path), std::move(options));
  return unpack(source, unpacker);
}

}  // namespace hull::tar
