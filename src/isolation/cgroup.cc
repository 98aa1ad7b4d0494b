// Making, opening and describing a container's control groups.

#include "isolation/cgroup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/error_format.h"
#include "isolation/cgroup_files.h"
#include "isolation/cgroup_host.h"
#include "isolation/cgroup_systemd.h"
#include "isolation/delegation.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::isolation {

namespace {

using cgroup_files::split;
using cgroup_files::trimmed;

constexpr mode_t kFolderMode = 0755;

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

Result<std::string> path_in(const CgroupMount& mount, const CgroupRequest& request, OwnGroups& own) {
  if (request.cgroups_path.starts_with('/')) {
    std::string path = sys::clean_path(request.cgroups_path);
    if (path.empty()) {
      return errorf(ErrorKind::kInvalid, "linux.cgroupsPath: \"{}\" is the top of the hierarchy; name a group below it",
                    request.cgroups_path);
    }
    return path;
  }
  // The prefix keeps an id such as "tasks" from meeting a file of that name.
  const std::string relative =
      request.cgroups_path.empty() ? "hull-" + request.container_id : sys::clean_path(request.cgroups_path);
  if (relative.empty()) {
    return errorf(ErrorKind::kInvalid, "linux.cgroupsPath: \"{}\" names no group", request.cgroups_path);
  }
  TRY_ASSIGN(std::string base, own.of(mount));
  // A v2 group with processes in it can't hand controllers to children ("no internal processes"), so go beside it.
  if (mount.version == 2) base = parent_of(base);
  return base.empty() ? relative : base + "/" + relative;
}

/// Folders made so far, for taking them back.
class MadeFolders {
 public:
  void add(std::string path) { paths_.push_back(std::move(path)); }
  void keep() { paths_.clear(); }
  ~MadeFolders() {
    for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) ::rmdir(path->c_str());
  }

 private:
  std::vector<std::string> paths_;
};

/// The v1 cpuset controller starts a group with no CPUs and no memory nodes, and then nobody can join. Fills both from
/// the parent. Folders in between get cgroup.clone_children, so that the kernel does it for the next ones.
Result<void> fill_cpuset(const std::string& mount_path, const std::string& relative, bool in_between) {
  const std::string folder = mount_path + "/" + relative;
  const std::string parent =
      relative.find('/') == std::string::npos ? mount_path : mount_path + "/" + parent_of(relative);
  TRY_ASSIGN(const UniqueFd dir, sys::open(folder, O_PATH | O_DIRECTORY));
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    TRY_ASSIGN(const std::string own, sys::read_file_at(dir.get(), file, 1 << 16));
    // Filled by the parent's clone_children: then both are.
    if (!trimmed(own).empty()) break;
    TRY_ASSIGN(const std::string inherited, sys::read_file(parent + "/" + file, 1 << 16));
    if (trimmed(inherited).empty()) {
      return errorf(ErrorKind::kConflict, "{}/{} is empty, so no group below it can run anything; write to it first",
                    parent, file);
    }
    TRY(sys::write_value(dir.get(), file, inherited));
  }
  // Only where this call made the folder: somebody else's keeps its setting.
  if (in_between) ignore_result(sys::write_value(dir.get(), "cgroup.clone_children", "1"));
  return {};
}

/// Makes mount_path/relative with its ancestors; false when the last one was there already.
Result<bool> make_folders(const CgroupMount& mount, const std::string& relative, MadeFolders& made) {
  const std::string full = mount.path + "/" + relative;
  const bool cpuset = mount.version == 1 && mount.has("cpuset");
  if (::mkdir(full.c_str(), kFolderMode) == 0) {
    made.add(full);
    if (cpuset) TRY(fill_cpuset(mount.path, relative, false));
    return true;
  }
  if (errno == EEXIST) return false;
  if (errno != ENOENT) return errnof("make the control group {}", full);
  for (size_t slash = relative.find('/');; slash = relative.find('/', slash + 1)) {
    const bool last = slash == std::string::npos;
    const std::string part = relative.substr(0, slash);
    const std::string path = mount.path + "/" + part;
    if (::mkdir(path.c_str(), kFolderMode) == 0) {
      made.add(path);
      if (cpuset) TRY(fill_cpuset(mount.path, part, !last));
    } else if (errno != EEXIST || last) {
      // Another command may have made the last one between the two attempts.
      if (errno == EEXIST) return false;
      return errnof("make the control group {}", path);
    }
    if (last) return true;
  }
}

/// v2: a group has only the controllers that every group above it hands down. Asks for all that the top has; what is
/// refused shows when a value is written that needs it.
void hand_down_controllers(const CgroupMount& mount, const std::string& relative) {
  if (mount.controllers.empty()) return;
  const Result<std::string> leaf = sys::read_file(mount.path + "/" + relative + "/cgroup.controllers", 4096);
  if (!leaf.ok()) return;
  const std::vector<std::string_view> have = split(*leaf, " \n");
  std::vector<std::string> missing;
  for (const std::string& name : mount.controllers) {
    if (std::find(have.begin(), have.end(), name) == have.end()) missing.push_back("+" + name);
  }
  if (missing.empty()) return;
  std::string all;
  for (const std::string& name : missing) all += (all.empty() ? "" : " ") + name;
  std::string folder = mount.path;
  for (size_t at = 0; at != std::string::npos;) {
    const Result<UniqueFd> dir = sys::open(folder, O_PATH | O_DIRECTORY);
    if (!dir.ok()) return;
    if (!sys::write_value(dir->get(), "cgroup.subtree_control", all).ok()) {
      for (const std::string& name : missing) {
        ignore_result(sys::write_value(dir->get(), "cgroup.subtree_control", name));
      }
    }
    const size_t slash = relative.find('/', at);
    if (slash == std::string::npos) break;  // the leaf itself hands nothing down
    folder = mount.path + "/" + relative.substr(0, slash);
    at = slash + 1;
  }
}

bool systemd_runs() { return sys::exists("/run/systemd/system"); }

bool is_permission_error(const Error& error) {
  return error.error_number() == EACCES || error.error_number() == EPERM || error.error_number() == EROFS;
}

}  // namespace

std::string Cgroup::Folder::full_path() const { return path.empty() ? mount_path : mount_path + "/" + path; }

Result<int> Cgroup::Folder::dir_fd() const {
  if (!dir_) {
    TRY_ASSIGN(dir_, sys::open(full_path(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  }
  return dir_.get();
}

bool Cgroup::Folder::has(std::string_view controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
}

const Cgroup::Folder* Cgroup::find(std::string_view controller) const {
  for (const Folder& folder : folders_) {
    if (folder.has(controller)) return &folder;
  }
  return nullptr;
}

const Cgroup::Folder* Cgroup::unified() const {
  for (const Folder& folder : folders_) {
    if (folder.version == 2) return &folder;
  }
  return nullptr;
}

Result<Cgroup> Cgroup::plan(const CgroupHost& host, const CgroupRequest& request) {
  Cgroup group;
  group.fixture_ = host.fixture();
  group.hand_down_ = host.layout() == CgroupLayout::kUnified;
  group.tolerate_permission_ = request.tolerate_permission;
  OwnGroups own;
  for (const CgroupMount& mount : host.mounts()) {
    // Named hierarchies have no limits; name=systemd is of use only where systemd reads it.
    const bool named = mount.controllers.size() == 1 && mount.controllers.front().starts_with("name=");
    if (named && !systemd_runs()) continue;
    Folder folder;
    TRY_ASSIGN(folder.path, path_in(mount, request, own));
    if (request.tolerate_permission && !host.fixture()) {
      TRY_ASSIGN(const std::string here, own.of(mount));
      if (!may_make_group(mount, folder.path, here)) continue;
    }
    folder.version = mount.version;
    folder.controllers = mount.controllers;
    folder.mount_path = mount.path;
    group.folders_.push_back(std::move(folder));
  }
  return group;
}

Result<void> Cgroup::make(int version) {
  MadeFolders made;
  for (size_t at = 0; at < folders_.size();) {
    Folder& folder = folders_[at];
    if (version != 0 && folder.version != version) {
      ++at;
      continue;
    }
    CgroupMount mount;
    mount.version = folder.version;
    mount.controllers = folder.controllers;
    mount.path = folder.mount_path;
    Result<bool> is_new = make_folders(mount, folder.path, made);
    if (!is_new.ok()) {
      if (!tolerate_permission_ || !is_permission_error(is_new.error())) return std::move(is_new).error();
      folders_.erase(folders_.begin() + static_cast<ptrdiff_t>(at));
      continue;
    }
    if (!*is_new && systemd_unit_.empty()) {
      const std::optional<std::string> inside = cgroup_files::read_optional(folder, "cgroup.procs");
      if (inside && !trimmed(*inside).empty()) {
        return errorf(ErrorKind::kConflict,
                      "control group {} has processes in it already (the first is {}); choose another "
                      "linux.cgroupsPath or end them",
                      folder.full_path(), split(*inside, "\n").front());
      }
    }
    // In a hybrid layout the few v2 controllers are handed down when something is asked of them.
    if (folder.version == 2 && hand_down_) hand_down_controllers(mount, folder.path);
    ++at;
  }
  if (folders_.empty() && !tolerate_permission_) {
    return Error(ErrorKind::kUnsupported, "no control group hierarchy can be used here");
  }
  made.keep();
  return {};
}

Result<Cgroup> Cgroup::create(const CgroupHost& host, const CgroupRequest& request,
                              const oci::Resources* systemd_resources, pid_t pid) {
  std::string unit;
  CgroupRequest where = request;
  if (request.systemd) {
    TRY_ASSIGN(SystemdScope scope, start_systemd_scope(request, systemd_resources, pid));
    unit = std::move(scope.unit);
    where.cgroups_path = std::move(scope.cgroup);
  }
  TRY_ASSIGN(Cgroup group, plan(host, where));
  group.systemd_unit_ = std::move(unit);
  TRY(group.make());
  return group;
}

std::string Cgroup::record() const {
  oci::JsonWriter out;
  out.object([&] {
    out.member_opt("unit", systemd_unit_);
    out.member_opt("fixture", fixture_);
    out.array("folders", [&] {
      for (const Folder& folder : folders_) {
        out.object([&] {
          out.member("version", folder.version);
          out.member_opt("controllers", folder.controllers);
          out.member("mount", folder.mount_path);
          out.member("path", folder.path);
        });
      }
    });
  });
  return std::move(out).take();
}

Result<Cgroup> Cgroup::open(std::string_view record) {
  Cgroup group;
  oci::JsonReader in(record);
  in.object([&](std::string_view key) {
    if (key == "unit") return in.value(group.systemd_unit_);
    if (key == "fixture") return in.value(group.fixture_);
    if (key != "folders") return false;
    in.array([&] {
      Folder& folder = group.folders_.emplace_back();
      in.object([&](std::string_view member) {
        if (member == "version") return in.value(folder.version);
        if (member == "controllers") return in.value(folder.controllers);
        if (member == "mount") return in.value(folder.mount_path);
        if (member == "path") return in.value(folder.path);
        return false;
      });
    });
    return true;
  });
  Result<void> end = in.finish();
  if (!end.ok()) return std::move(end.error()).as(ErrorKind::kCorrupt).context("the record of the control group");
  for (const Folder& folder : group.folders_) {
    // An empty path would be the top of the hierarchy, and remove() and kill_all() would mean everything.
    if (folder.path.empty() || folder.path.starts_with('/') || sys::clean_path(folder.path) != folder.path ||
        !folder.mount_path.starts_with('/')) {
      return errorf(ErrorKind::kCorrupt, "the record of the control group: \"{}\" is no path below a hierarchy",
                    folder.path);
    }
  }
  return group;
}

std::map<std::string, std::string> Cgroup::paths() const {
  std::map<std::string, std::string> out;
  for (const Folder& folder : folders_) {
    if (folder.version == 2) {
      out[""] = folder.full_path();
    } else {
      for (const std::string& controller : folder.controllers) out[controller] = folder.full_path();
    }
  }
  return out;
}

bool Cgroup::is_gone() const {
  return std::none_of(folders_.begin(), folders_.end(),
                      [](const Folder& folder) { return ::access(folder.full_path().c_str(), F_OK) == 0; });
}

Result<CgroupJoin> Cgroup::prepare_join(const std::vector<std::string>& sub_paths) {
  // "sub" is for every hierarchy; "cpu,memory:sub" for those of the controllers named (runc exec --cgroup).
  const auto sub_path_for = [&](const Folder& folder) -> Result<std::string> {
    std::string found;
    for (const std::string& text : sub_paths) {
      const size_t colon = text.find(':');
      const std::string path = sys::clean_path(colon == std::string::npos ? text : text.substr(colon + 1));
      if (text.find("..") != std::string::npos && path != text.substr(colon == std::string::npos ? 0 : colon + 1)) {
        return errorf(ErrorKind::kInvalid, "--cgroup {}: the path must lie below the container's group", text);
      }
      if (colon == std::string::npos) {
        found = path;
        continue;
      }
      for (const std::string_view name : split(std::string_view(text).substr(0, colon), ",")) {
        if (folder.has(name)) found = path;
      }
    }
    return found;
  };
  CgroupJoin join;
  for (Folder& folder : folders_) {
    TRY_ASSIGN(const std::string sub, sub_path_for(folder));
    const std::string dir = sub.empty() ? folder.full_path() : folder.full_path() + "/" + sub;
    const auto missing = [&](const Result<UniqueFd>& result) {
      return !result.ok() && result.error().error_number() == ENOENT && sub.empty();
    };
    if (folder.version == 2) {
      Result<UniqueFd> fd = sys::open(dir, O_PATH | O_DIRECTORY);
      if (missing(fd)) continue;
      if (!fd.ok()) return std::move(fd).error().context("join the container's control group");
      folder.join_fd = std::move(fd).value();
      join.v2_dir_fd = folder.join_fd.get();
      continue;
    }
    if (join.task_count == CgroupJoin::kMaxHierarchies) {
      return errorf(ErrorKind::kUnsupported, "more than {} control group hierarchies are mounted",
                    CgroupJoin::kMaxHierarchies);
    }
    Result<UniqueFd> fd = sys::open(dir + "/tasks", O_WRONLY);
    if (missing(fd)) continue;
    if (!fd.ok()) return std::move(fd).error().context("join the container's control group");
    folder.join_fd = std::move(fd).value();
    join.task_fds[static_cast<size_t>(join.task_count++)] = folder.join_fd.get();
  }
  return join;
}

Result<void> Cgroup::open_v2_procs(CgroupJoin& join) {
  if (join.v2_dir_fd < 0) return {};
  TRY_ASSIGN(v2_procs_, sys::open_at(join.v2_dir_fd, "cgroup.procs", O_WRONLY));
  join.v2_procs_fd = v2_procs_.get();
  return {};
}

Result<void> Cgroup::add_process(pid_t pid) {
  for (const Folder& folder : folders_) {
    const Result<int> dir = folder.dir_fd();
    if (!dir.ok() && dir.error().error_number() == ENOENT) continue;
    TRY(dir);
    TRY(sys::write_value(*dir, "cgroup.procs", fmt::format("{}", pid))
            .context(fmt::format("put process {} into {}", pid, folder.full_path())));
  }
  return {};
}

Result<void> Cgroup::delegate(uid_t uid) {
  const Folder* folder = unified();
  if (folder == nullptr) return {};
  TRY_ASSIGN(const int dir, folder->dir_fd());
  constexpr gid_t kKeep = static_cast<gid_t>(-1);
  if (::fchownat(dir, "", uid, kKeep, AT_EMPTY_PATH) != 0) {
    return errnof("give the control group {} to user {}", folder->full_path(), uid);
  }
  // Linux 4.15 lists the files; before it these three were to be delegated.
  Result<std::string> list = sys::read_file("/sys/kernel/cgroup/delegate", 1 << 16);
  const std::string names = list.ok() ? *list : "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
  for (const std::string_view name : split(names, "\n")) {
    const std::string file(name);
    if (::fchownat(dir, file.c_str(), uid, kKeep, AT_SYMLINK_NOFOLLOW) != 0 && errno != ENOENT) {
      return errnof("give {}/{} to user {}", folder->full_path(), file, uid);
    }
  }
  return {};
}

uint64_t cpu_weight_of_shares(uint64_t shares) {
  if (shares == 0) return 0;
  constexpr uint64_t kMinShares = 2;
  constexpr uint64_t kMaxShares = 262144;
  constexpr uint64_t kMaxWeight = 10000;
  if (shares <= kMinShares) return 1;
  if (shares >= kMaxShares) return kMaxWeight;
  // A quadratic in the logarithm through (2, 1), (1024, 100) and (262144, 10000), as runc 1.4 and crun 1.23 have it;
  // the straight line used before mapped the default 1024 to 39 of 100.
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
  return static_cast<uint64_t>(std::ceil(std::pow(10.0, exponent)));
}

uint64_t io_weight_of_blkio(uint64_t weight) {
  if (weight == 0) return 0;
  constexpr uint64_t kMin = 10;
  constexpr uint64_t kMax = 1000;
  return 1 + (std::clamp(weight, kMin, kMax) - kMin) * 9999 / (kMax - kMin);
}

Result<int64_t> swap_max_of_memsw(int64_t memsw, int64_t memory) {
  if (memory == -1 && memsw == 0) return int64_t{-1};
  if (memsw <= 0) return memsw < 0 ? int64_t{-1} : int64_t{0};
  if (memory == -1) return memsw;
  if (memory == 0) {
    return Error(ErrorKind::kInvalid,
                 "linux.resources.memory.swap: is memory and swap together, so linux.resources.memory.limit must be "
                 "given too");
  }
  if (memsw < memory) {
    return errorf(ErrorKind::kInvalid,
                  "linux.resources.memory.swap: {} is memory and swap together and must not be below "
                  "linux.resources.memory.limit, {}",
                  memsw, memory);
  }
  return memsw - memory;
}

}  // namespace hull::isolation
