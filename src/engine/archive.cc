// Files into and out of a workload, as archives.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/image_view.h"
#include "engine/plain_source.h"
#include "engine/vm_files.h"
#include "engine/workload_files.h"
#include "runtime/user_lookup.h"
#include "sys/file.h"
#include "tar/pack.h"
#include "tar/unpack.h"

namespace hull::engine {
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
std::string follow(const sys::Root& root, std::string path, const tar::Pinned& first) {
  auto link = tar::link_target(first);
  for (int i = 0; i < kMaxLinks && link.ok(); ++i) {
    const std::string folder = path.substr(0, path.rfind('/') + 1);
    path = "/" + sys::clean_path(link->starts_with('/') ? *link : folder + *link);
    auto next = open_target(root, path);
    if (!next.ok()) break;
    auto pinned = tar::pin(next->folder.get(), next->name);
    if (!pinned.ok() || !S_ISLNK(pinned->info.st_mode)) break;
    link = tar::link_target(*pinned);
  }
  return path;
}

PathStat stat_of(const sys::Root& root, std::string_view path, const Target& target, const tar::Pinned& pinned) {
  PathStat out;
  out.name = target.base;
  out.size = static_cast<uint64_t>(pinned.info.st_size);
  out.mode = pinned.info.st_mode;
  out.modified = std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::seconds(pinned.info.st_mtim.tv_sec) + std::chrono::nanoseconds(pinned.info.st_mtim.tv_nsec)));
  if (S_ISLNK(pinned.info.st_mode)) out.link_target = follow(root, "/" + sys::clean_path(path), pinned);
  return out;
}

/// Whether a virtual machine has to be asked; one that does not run can't be.
Result<bool> through_guest(const Paths& paths, const WorkloadRow& row) {
  if (row.isolation != Isolation::kVm) return false;
  if (read_state(paths, row.id).status == Status::kRunning) return true;
  return errorf(ErrorKind::kConflict,
                "{} is a virtual machine that does not run: its disk is read by the machine alone; start it first "
                "('hull start {}')",
                row.name, row.name);
}

}  // namespace

uint32_t go_file_mode(uint32_t mode) {
  uint32_t out = mode & 0777;
  switch (mode & S_IFMT) {
    case S_IFDIR:
      out |= 1U << 31;
      break;
    case S_IFLNK:
      out |= 1U << 27;
      break;
    case S_IFBLK:
      out |= 1U << 26;
      break;
    case S_IFCHR:
      out |= 1U << 26 | 1U << 21;
      break;
    case S_IFIFO:
      out |= 1U << 25;
      break;
    case S_IFSOCK:
      out |= 1U << 24;
      break;
    default:
      break;
  }
  if ((mode & S_ISUID) != 0) out |= 1U << 23;
  if ((mode & S_ISGID) != 0) out |= 1U << 22;
  if ((mode & S_ISVTX) != 0) out |= 1U << 20;
  return out;
}

Result<PathStat> EngineImpl::path_stat(std::string_view ref, std::string_view path) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const bool guest, through_guest(paths_, row));
  if (guest) return vm_path_stat(*this, row.id, path);
  TRY_ASSIGN(const WorkloadFiles files, open_files(row));
  auto target = open_target(files.root, path);
  if (!target.ok()) return not_there(target.error(), path, row.name);
  auto pinned = tar::pin(target->folder.get(), target->name);
  if (!pinned.ok()) return not_there(pinned.error(), path, row.name);
  return stat_of(files.root, path, *target, *pinned);
}

Result<void> EngineImpl::archive_get(std::string_view ref, std::string_view path,
                                     const std::function<Result<void>(const PathStat&)>& on_stat,
                                     const ByteTaker& sink) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const bool guest, through_guest(paths_, row));
  if (guest) {
    TRY(vm_archive_get(*this, row.id, path, on_stat, sink));
    emit_workload(row, "archive-path");
    return {};
  }
  TRY_ASSIGN(const WorkloadFiles files, open_files(row));
  auto target = open_target(files.root, path);
  if (!target.ok()) return not_there(target.error(), path, row.name);
  auto pinned = tar::pin(target->folder.get(), target->name);
  if (!pinned.ok()) return not_there(pinned.error(), path, row.name);
  TRY(on_stat(stat_of(files.root, path, *target, *pinned)));
  tar::TarWriter writer(sink);
  tar::Packer packer(writer, {});
  TRY(packer.tree(target->folder.get(), target->name, target->base));
  TRY(writer.finish());
  emit_workload(row, "archive-path");
  return {};
}

Result<void> EngineImpl::archive_put(std::string_view ref, std::string_view path, const PutOptions& options,
                                     const ByteGiver& sent) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  PlainSource plain(sent, settings_.libexec + "/hull-kernel");
  const ByteGiver source = [&plain](char* buffer, size_t size) { return plain.read(buffer, size); };
  TRY_ASSIGN(const bool guest, through_guest(paths_, row));
  if (guest) {
    TRY(vm_archive_put(*this, row.id, path, options, source));
    emit_workload(row, "extract-to-dir");
    return {};
  }
  TRY_ASSIGN(const WorkloadFiles files, open_files(row));
  auto folder = files.root.open_in(path, O_PATH);
  if (!folder.ok()) return not_there(folder.error(), path, row.name);
  struct stat info{};
  if (::fstat(folder->get(), &info) != 0) return errnof("stat {}", path);
  if (!S_ISDIR(info.st_mode)) return errorf(ErrorKind::kInvalid, "extraction point is not a directory");
  tar::UnpackOptions unpack;
  unpack.no_overwrite_dir_non_dir = options.no_overwrite_dir_non_dir;
  if (options.to_container_user) {
    TRY_ASSIGN(Index* const names, index());
    TRY_ASSIGN(const std::string json, names->config(row.id));
    TRY_ASSIGN(const Config config, parse_config(json));
    TRY_ASSIGN(const runtime::ResolvedUser user, runtime::resolve_user(files.root, config.user, {}));
    unpack.owner = {user.uid, user.gid};
  }
  tar::Unpacker unpacker(files.root, std::string(path), std::move(unpack));
  TRY(tar::unpack(source, unpacker));
  emit_workload(row, "extract-to-dir");
  return {};
}

Result<void> EngineImpl::export_files(std::string_view ref, const ByteTaker& sink) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  if (row.isolation == Isolation::kVm) {
    return errorf(ErrorKind::kUnsupported,
                  "export: {} is a virtual machine: its disk is read by the machine alone; 'hull cp {}:/ -' copies its "
                  "files while it runs",
                  row.name, row.name);
  }
  tar::TarWriter writer(sink);
  tar::Packer packer(writer, {.same_mount = true});
  TRY_ASSIGN(const std::optional<sys::Root> running, running_root(row.id));
  if (running) {
    TRY(packer.tree(running->fd(), ".", ""));
  } else {
    // Read-only, without what is mounted: nothing keeps it from starting meanwhile.
    TRY_ASSIGN(std::vector<std::string> stack, layers_of(row));
    stack.insert(stack.begin(), paths_.workload(row.id) + "/upper");
    TRY_ASSIGN(const sys::Root view, open_stack(stack));
    TRY(packer.tree(view.fd(), ".", ""));
  }
  TRY(writer.finish());
  emit_workload(row, "export");
  return {};
}

}  // namespace hull::engine
