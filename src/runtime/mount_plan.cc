#include "runtime/mount_plan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "isolation/defaults.h"
#include "runtime/cgroup_mounts.h"
#include "runtime/device_plan.h"
#include "sys/file.h"
#include "sys/overlay.h"
#include "sys/root.h"

namespace hull::runtime {
namespace {

std::string absolute(const std::string& path, const std::string& base) {
  return !path.empty() && path.front() == '/' ? path : base + "/" + path;
}

bool is_overlay_root(const oci::Mount& mount) {
  return mount.type == "overlay" && sys::clean_path(mount.destination).empty();
}

/// File systems that live in memory and belong to the kernel: "ro" is the mount's business, not the super block's.
bool is_virtual(const std::string& type) {
  static constexpr std::string_view kTypes[] = {"tmpfs",  "proc",    "sysfs", "devpts",  "mqueue",
                                                "cgroup", "cgroup2", "bpf",   "debugfs", "tracefs"};
  for (const std::string_view known : kTypes) {
    if (type == known) return true;
  }
  return false;
}

class Planner {
 public:
  Planner(const oci::Spec& spec, const MountContext& context, Arena& arena, std::vector<UniqueFd>& fds,
          child::ContainerPlan& plan)
      : spec_(spec), context_(context), arena_(arena), fds_(fds), plan_(plan) {}

  Result<void> plan() {
    const oci::Linux* linux_config = spec_.linux_config ? &*spec_.linux_config : nullptr;
    TRY(plan_propagation(linux_config == nullptr ? "" : linux_config->rootfs_propagation));
    TRY(plan_root());
    if (linux_config != nullptr && !linux_config->mount_label.empty()) {
      if (isolation_label_usable()) label_ = linux_config->mount_label;
    }
    std::vector<child::MountStep> steps;
    bool dev_is_bound = false;
    for (size_t i = 0; i < spec_.mounts.size(); ++i) {
      const oci::Mount& mount = spec_.mounts[i];
      if (is_overlay_root(mount)) continue;
      const size_t first = steps.size();
      auto planned = plan_mount(mount, steps);
      if (!planned.ok()) {
        return std::move(planned).error().context(fmt::format("mounts[{}] ({})", i, mount.destination));
      }
      for (size_t at = first; at < steps.size(); ++at) steps[at].index = static_cast<uint32_t>(i);
      if (sys::clean_path(mount.destination) == "dev" && steps.back().kind != child::MountKind::kNew) {
        dev_is_bound = true;
      }
    }
    plan_.mounts = arena_.copy(steps);
    plan_.setup_dev = !dev_is_bound;
    if (plan_.setup_dev) TRY(plan_devices(spec_, context_, arena_, fds_, plan_));
    if (linux_config != nullptr) {
      plan_.masked = paths(linux_config->masked_paths);
      plan_.readonly = paths(linux_config->readonly_paths);
    }
    if (!label_.empty()) plan_.mount_label_option = arena_.text(label_);
    return {};
  }

 private:
  static bool isolation_label_usable() { return sys::exists("/sys/fs/selinux/enforce"); }

  child::Span<const char* const> paths(const std::vector<std::string>& from) {
    std::vector<const char*> out;
    for (const std::string& path : from) {
      const std::string clean = sys::clean_path(path);
      if (!clean.empty()) out.push_back(arena_.text(clean));
    }
    const auto copy = arena_.copy(out);
    return {copy.data, copy.count};
  }

  Result<void> plan_propagation(const std::string& name) {
    Propagation wanted{MS_SLAVE, true};
    if (!name.empty()) {
      auto parsed = parse_propagation(name);
      if (!parsed.ok()) return std::move(parsed).error().context("linux.rootfsPropagation");
      wanted = *parsed;
    }
    // An unbindable tree could not be bound from; the host's tree is only cut off, the new root is made unbindable.
    plan_.host_propagation = wanted.flag == MS_UNBINDABLE ? uint64_t{MS_PRIVATE} : wanted.flag;
    plan_.host_propagation_recursive = true;
    if (wanted.flag == MS_SHARED || wanted.flag == MS_UNBINDABLE) {
      plan_.root_propagation = wanted.flag;
      plan_.root_propagation_recursive = wanted.recursive;
    }
    return {};
  }

  Result<void> plan_root() {
    plan_.root_readonly = spec_.root && spec_.root->readonly;
    TRY_ASSIGN(const std::string rootfs, resolve_rootfs(spec_, context_.bundle));
    plan_.root_path = arena_.text(rootfs);
    for (const oci::Mount& mount : spec_.mounts) {
      if (!is_overlay_root(mount)) continue;
      auto made = make_overlay(mount);
      if (!made.ok()) return std::move(made).error().context("root file system");
      plan_.root_fd = keep(std::move(*made));
      return {};
    }
    if (!context_.prepare) return {};
    auto tree = sys::clone_mount(AT_FDCWD, rootfs, true);
    if (!tree.ok()) return std::move(tree).error().context("root file system");
    // Never shared while the pivot is made; what it shall be afterwards is set inside.
    constexpr uint64_t kPrivate = MS_PRIVATE;
    constexpr uint64_t kSlave = MS_SLAVE;
    const uint64_t cut = plan_.host_propagation == kPrivate ? kPrivate : kSlave;
    TRY(sys::set_mount_attributes(tree->get(), 0, 0, cut, true));
    if (plan_.host_propagation == MS_SHARED) {
      TRY(sys::set_mount_attributes(tree->get(), 0, 0, MS_PRIVATE, false));
    }
    plan_.root_fd = keep(std::move(*tree));
    return {};
  }

  /// Hull's extension: a mount with destination "/" of type overlay is the root file system, mounted nowhere but in
  /// the container.
  Result<UniqueFd> make_overlay(const oci::Mount& mount) {
    TRY_ASSIGN(const MountOptions options, parse_mount_options(mount.options));
    std::vector<std::string> lower;
    std::vector<sys::FsParameter> parameters;
    for (const sys::FsParameter& parameter : options.parameters) {
      if (parameter.key == "lowerdir") {
        lower = sys::split_lower_folders(parameter.value);
      } else {
        parameters.push_back(parameter);
      }
    }
    if (lower.empty()) return errorf(ErrorKind::kInvalid, "an overlay needs lowerdir=");
    for (const std::string& flag : options.superblock_flags) parameters.push_back({flag, "", true});
    return sys::make_overlay(mount.source.empty() ? "overlay" : mount.source, lower, parameters, options.attr_set);
  }

  int keep(UniqueFd fd) {
    fds_.push_back(std::move(fd));
    return fds_.back().get();
  }

  Result<void> plan_mount(const oci::Mount& mount, std::vector<child::MountStep>& steps) {
    TRY_ASSIGN(const MountOptions options, parse_mount_options(mount.options));
    child::MountStep step;
    const std::string destination = sys::clean_path(mount.destination);
    if (destination.empty() && !options.remount) {
      return errorf(ErrorKind::kInvalid, "only an overlay can be mounted at /; the root comes from root.path");
    }
    step.destination = arena_.text(destination);
    step.propagation = options.propagation;
    step.propagation_recursive = options.propagation_recursive;
    step.no_links = destination == "dev" || mount.type == "proc" || mount.type == "sysfs";
    if (options.remount) {
      step.kind = child::MountKind::kAttribute;
      set_attributes(options, step);
      steps.push_back(step);
      return {};
    }
    if (options.bind || mount.type == "bind") return plan_bind(mount, options, step, steps);
    if (mount.type == "cgroup" || mount.type == "cgroup2") {
      return plan_cgroup_mount(mount, options, context_, arena_, step, steps);
    }
    if (mount.type.empty()) return errorf(ErrorKind::kInvalid, "a mount that is no bind needs a type");
    step.kind = child::MountKind::kNew;
    step.type = arena_.text(mount.type);
    step.source = arena_.text(mount.source.empty() ? mount.type : mount.source);
    step.copy_up = options.copy_up;
    if (options.copy_up && mount.type != "tmpfs") return errorf(ErrorKind::kInvalid, "tmpcopyup is for tmpfs");
    step.fallback_bind = mount.type == "sysfs" || mount.type == "mqueue" || mount.type == "proc";
    std::vector<child::FsOption> parameters;
    bool has_mode = false;
    for (const sys::FsParameter& parameter : options.parameters) {
      has_mode = has_mode || parameter.key == "mode";
      parameters.push_back({arena_.text(parameter.key), parameter.is_flag ? nullptr : arena_.text(parameter.value)});
    }
    step.keep_mode = mount.type == "tmpfs" && !has_mode && !options.copy_up;
    for (const std::string& flag : options.superblock_flags) parameters.push_back({arena_.text(flag), nullptr});
    if (options.readonly && !is_virtual(mount.type)) parameters.push_back({"ro", nullptr});
    if (!label_.empty() && mount.type != "proc" && mount.type != "sysfs") {
      parameters.push_back({"context", arena_.text(label_)});
    }
    step.options = arena_.copy(parameters);
    set_attributes(options, step);
    if (options.idmap || !mount.uid_mappings.empty()) {
      if (!context_.prepare) return errorf(ErrorKind::kPermission, "id-mapped mounts need CAP_SYS_ADMIN");
      TRY_ASSIGN(UniqueFd userns, mapping_of(mount));
      step.idmap_fd = keep(std::move(userns));
    }
    steps.push_back(step);
    return {};
  }

  static void set_attributes(const MountOptions& options, child::MountStep& step) {
    step.attr_set = options.attr_set;
    step.attr_clear = options.attr_clear;
    step.attr_set_recursive = options.recursive_set;
    step.attr_clear_recursive = options.recursive_clear;
  }

  Result<UniqueFd> mapping_of(const oci::Mount& mount) const {
    IdMaps maps{mount.uid_mappings, mount.gid_mappings};
    if (maps.uids.empty()) maps = context_.maps;
    if (maps.uids.empty() || maps.gids.empty()) {
      return errorf(ErrorKind::kInvalid, "idmap needs uidMappings and gidMappings, of the mount or of linux");
    }
    return make_user_namespace(maps);
  }

  Result<void> plan_bind(const oci::Mount& mount, const MountOptions& options, child::MountStep step,
                         std::vector<child::MountStep>& steps) {
    if (mount.source.empty()) return errorf(ErrorKind::kInvalid, "a bind mount needs a source");
    // Options of a file system mean nothing for a bind; the kernel ignores them and so do we.
    const std::string source = absolute(mount.source, context_.bundle);
    struct stat info{};
    if (::stat(source.c_str(), &info) != 0) return errnof("bind source {}", source);
    step.file = !S_ISDIR(info.st_mode);
    step.recursive = options.recursive_bind;
    const bool wants_idmap = options.idmap || !mount.uid_mappings.empty();
    if (wants_idmap && !context_.prepare) {
      return errorf(ErrorKind::kPermission, "id-mapped mounts need CAP_SYS_ADMIN");
    }
    if (!context_.prepare || !context_.user_namespace) {
      // Taken by the child in its turn, so that mountinfo, which the kernel sorts by age, lists the mounts in order.
      step.kind = child::MountKind::kBindPath;
      step.source = arena_.text(source);
      set_attributes(options, step);
      if (wants_idmap) {
        TRY_ASSIGN(UniqueFd userns, mapping_of(mount));
        step.idmap_fd = keep(std::move(userns));
        step.idmap_recursive = options.recursive_idmap;
      }
      steps.push_back(step);
      return {};
    }
    // The new user namespace may not reach the source, and may not change what is mounted there: taken here.
    TRY_ASSIGN(UniqueFd tree, sys::clone_mount(AT_FDCWD, source, options.recursive_bind));
    if (::fstat(tree.get(), &info) != 0) return errnof("bind source {}", source);
    step.file = !S_ISDIR(info.st_mode);
    // The copy is a peer of the host's mount; in the container it becomes what the copy of the host's tree becomes.
    if (plan_.host_propagation != MS_SHARED) {
      TRY(sys::set_mount_attributes(tree.get(), 0, 0, plan_.host_propagation, true));
    }
    if (wants_idmap) {
      TRY_ASSIGN(const UniqueFd userns, mapping_of(mount));
      TRY(sys::set_mount_idmap(tree.get(), userns.get(), options.recursive_idmap).context("bind source " + source));
    }
    if ((options.attr_set | options.attr_clear) != 0) {
      auto changed = sys::set_mount_attributes(tree.get(), options.attr_set, options.attr_clear, 0, false);
      if (!changed.ok() && changed.error().error_number() == EPERM) {
        // Flags that a parent user namespace has locked stay as they are; what is added must hold.
        changed =
            sys::set_mount_attributes(tree.get(), options.attr_set, options.attr_clear & MOUNT_ATTR__ATIME, 0, false);
      }
      TRY(std::move(changed));
    }
    if ((options.recursive_set | options.recursive_clear) != 0) {
      TRY(sys::set_mount_attributes(tree.get(), options.recursive_set, options.recursive_clear, 0, true));
    }
    step.kind = child::MountKind::kTree;
    step.tree_fd = keep(std::move(tree));
    steps.push_back(step);
    return {};
  }

  const oci::Spec& spec_;
  const MountContext& context_;
  Arena& arena_;
  std::vector<UniqueFd>& fds_;
  child::ContainerPlan& plan_;
  std::string label_;
};

}  // namespace

Result<std::string> resolve_rootfs(const oci::Spec& spec, const std::string& bundle) {
  if (!spec.root || spec.root->path.empty()) {
    return errorf(ErrorKind::kInvalid, "root.path: a container needs a root file system");
  }
  const std::string path = absolute(spec.root->path, bundle);
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return errnof("root.path: {}", path);
  if (!S_ISDIR(info.st_mode)) return errorf(ErrorKind::kInvalid, "root.path: {} is not a folder", path);
  return path;
}

Result<void> plan_mounts(const oci::Spec& spec, const MountContext& context, Arena& arena, std::vector<UniqueFd>& fds,
                         child::ContainerPlan& plan) {
  return Planner(spec, context, arena, fds, plan).plan();
}

}  // namespace hull::runtime
