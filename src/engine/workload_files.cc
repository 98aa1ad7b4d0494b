#include "engine/workload_files.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/image_view.h"
#include "engine/process.h"
#include "sys/file.h"
#include "sys/mount_api.h"
#include "sys/overlay.h"

namespace hull::engine {
namespace {

/// This thread in a mount namespace of its own, until the end of the scope.
class PrivateMounts {
 public:
  static Result<PrivateMounts> enter() {
    PrivateMounts out;
    TRY_ASSIGN(out.before_, sys::open("/proc/thread-self/ns/mnt", O_RDONLY));
    TRY_ASSIGN(out.folder_, sys::open(".", O_PATH | O_DIRECTORY));
    if (::unshare(CLONE_NEWNS) != 0) return errno_error("make a mount namespace");
    out.inside_ = true;
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno_error("make mounts private");
    return out;
  }
  PrivateMounts(PrivateMounts&& other) noexcept
      : before_(std::move(other.before_)),
        folder_(std::move(other.folder_)),
        inside_(std::exchange(other.inside_, false)) {}
  PrivateMounts& operator=(PrivateMounts&&) = delete;
  ~PrivateMounts() {
    if (!inside_) return;
    // Whoever could enter can return; a process that can't must not go on with other mounts than the host's.
    if (::setns(before_.get(), CLONE_NEWNS) != 0) ::_exit(125);
    static_cast<void>(!::fchdir(folder_.get()));
  }
  static Result<UniqueFd> descriptor() { return sys::open("/proc/thread-self/ns/mnt", O_RDONLY); }

 private:
  PrivateMounts() = default;
  UniqueFd before_, folder_;
  bool inside_ = false;
};

/// The mount point, made when the image has none: a folder for a folder, else an empty file.
Result<UniqueFd> mount_point(const sys::Root& root, const std::string& target, bool folder) {
  auto there = root.open_in(target, O_PATH);
  if (there.ok() || there.error().error_number() != ENOENT) return there;
  if (folder) return root.make_dirs(target);
  TRY_ASSIGN(const sys::Root::Parent parent, root.open_parent(target, true));
  const UniqueFd made(
      ::openat(parent.fd.get(), parent.name.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!made) return errnof("make {}", target);
  return root.open_in(target, O_PATH);
}

}  // namespace

Result<void> EngineImpl::mount_volumes(const sys::Root& root, const Config& config) {
  for (const MountRequest& mount : config.mounts) {
    if (mount.type == MountRequest::Type::kTmpfs) continue;
    std::string source = mount.source;
    if (mount.type == MountRequest::Type::kVolume) {
      TRY_ASSIGN(source, volume_path(mount.source));
    }
    struct stat info{};
    if (::stat(source.c_str(), &info) != 0) continue;  // what starting it would complain of
    TRY_ASSIGN(const UniqueFd tree, sys::clone_mount(AT_FDCWD, source, true));
    if (mount.read_only) TRY(sys::set_mount_attributes(tree.get(), MOUNT_ATTR_RDONLY, 0, 0, false));
    TRY_ASSIGN(const UniqueFd target, mount_point(root, mount.target, S_ISDIR(info.st_mode)));
    TRY(sys::attach_mount(tree.get(), target.get(), "").context("mount at " + mount.target));
  }
  return {};
}

Result<std::vector<std::string>> EngineImpl::layers_of(const WorkloadRow& row) {
  TRY_ASSIGN(const store::Image image, images_->find(row.image_id));
  TRY_ASSIGN(std::vector<std::string> lower, images_->lower_dirs(image));
  if (lower.empty()) {
    TRY(sys::make_dirs(paths_.empty_root()));
    lower.push_back(paths_.empty_root());
  }
  return lower;
}

Result<WorkloadFiles> EngineImpl::stopped_files(const WorkloadRow& row, Change change) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(json));
  TRY_ASSIGN(const std::vector<std::string> lower, layers_of(row));
  const std::string folder = paths_.workload(row.id);
  TRY(sys::make_dirs(paths_.empty_root()));
  TRY_ASSIGN(const PrivateMounts inside, PrivateMounts::enter());
  TRY_ASSIGN(const UniqueFd overlay,
             sys::make_overlay("overlay", lower,
                               {{"upperdir", folder + "/upper", false}, {"workdir", folder + "/work", false}}, 0));
  TRY(sys::attach_mount(overlay.get(), AT_FDCWD, paths_.empty_root()));
  TRY_ASSIGN(sys::Root root, sys::Root::open(paths_.empty_root()));
  TRY(mount_volumes(root, config));
  TRY_ASSIGN(UniqueFd mounts, PrivateMounts::descriptor());
  return WorkloadFiles{std::move(root), std::move(mounts), std::move(change)};
}

/// A running workload's root; nothing when it does not run.
Result<std::optional<sys::Root>> EngineImpl::running_root(const std::string& id) {
  const RunState state = read_state(paths_, id);
  if (state.status != Status::kRunning && state.status != Status::kPaused) return std::optional<sys::Root>();
  auto root = sys::Root::open(fmt::format("/proc/{}/root", state.pid));
  // The pid may have gone to another process meanwhile: what was opened counts only if it had not.
  if (!root.ok() || process_start_time(state.pid) != state.start_time) return std::optional<sys::Root>();
  return std::optional<sys::Root>(std::move(*root));
}

Result<WorkloadFiles> EngineImpl::open_files(const WorkloadRow& row) {
  TRY_ASSIGN(auto running, running_root(row.id));
  if (running) return WorkloadFiles{std::move(*running), {}, std::nullopt};
  TRY_ASSIGN(Change change, Change::begin(paths_, row.id));
  TRY_ASSIGN(running, running_root(row.id));
  if (running) return WorkloadFiles{std::move(*running), {}, std::nullopt};
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::optional<WorkloadRow> again, names->by_id(row.id));
  if (!again || again->removing) return errorf(ErrorKind::kNotFound, "No such container: {}", row.name);
  if (read_state(paths_, row.id).needs_cleanup) {
    TRY(cleanup_locked(change, *again));
    if (again->auto_remove) return errorf(ErrorKind::kNotFound, "No such container: {}", row.name);
  }
  return stopped_files(row, std::move(change));
}

}  // namespace hull::engine
