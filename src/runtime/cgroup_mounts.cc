#include "runtime/cgroup_mounts.h"

#include "base/error_format.h"
#include "sys/root.h"

namespace hull::runtime {
namespace {

std::string base_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

/// The container's own folder in a hierarchy; the hierarchy's top when it has none there.
std::string own_folder(const MountContext& context, const isolation::CgroupMount& hierarchy) {
  if (context.cgroup != nullptr) {
    for (const isolation::Cgroup::Folder& folder : context.cgroup->folders()) {
      if (folder.mount_path == hierarchy.path) return folder.mount_path + "/" + folder.path;
    }
  }
  return hierarchy.path;
}

child::MountStep new_hierarchy(const isolation::CgroupMount& hierarchy, Arena& arena, child::MountStep step) {
  step.kind = child::MountKind::kNew;
  step.type = hierarchy.version == 2 ? "cgroup2" : "cgroup";
  step.source = step.type;
  std::vector<child::FsOption> parameters;
  if (hierarchy.version == 1) {
    for (const std::string& controller : hierarchy.controllers) {
      const size_t equals = controller.find('=');
      if (equals == std::string::npos) {
        parameters.push_back({arena.text(controller), nullptr});
      } else {
        parameters.push_back({arena.text(controller.substr(0, equals)), arena.text(controller.substr(equals + 1))});
      }
    }
  }
  step.options = arena.copy(parameters);
  return step;
}

}  // namespace

Result<void> plan_cgroup_mount(const oci::Mount& mount, const MountOptions& options, const MountContext& context,
                               Arena& arena, child::MountStep step, std::vector<child::MountStep>& steps) {
  if (context.cgroup_host == nullptr) return errorf(ErrorKind::kUnsupported, "this host has no cgroup file system");
  step.attr_set = options.attr_set;
  if (!context.cgroup_namespace) step.attr_set |= MOUNT_ATTR_RDONLY;
  const isolation::CgroupLayout layout = context.cgroup_host->layout();
  const isolation::CgroupMount* unified = context.cgroup_host->unified();
  if (layout == isolation::CgroupLayout::kUnified || (mount.type == "cgroup2" && unified != nullptr)) {
    step = new_hierarchy(*unified, arena, step);
    step.fallback_bind = true;
    steps.push_back(step);
    return {};
  }
  if (mount.type == "cgroup2") return errorf(ErrorKind::kUnsupported, "this host has no cgroup v2 hierarchy");

  child::MountStep top = step;
  top.kind = child::MountKind::kNew;
  top.type = "tmpfs";
  top.source = "tmpfs";
  top.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  top.propagation = 0;
  top.options = arena.copy(std::vector<child::FsOption>{{"mode", "755"}});
  steps.push_back(top);
  for (const isolation::CgroupMount& hierarchy : context.cgroup_host->mounts()) {
    const std::string name = base_name(hierarchy.path);
    child::MountStep one = step;
    one.propagation = 0;
    one.destination = arena.text(std::string(step.destination) + "/" + name);
    if (context.cgroup_namespace) {
      one = new_hierarchy(hierarchy, arena, one);
      one.optional = true;
    } else {
      one.kind = child::MountKind::kBindPath;
      one.recursive = true;
      one.source = arena.text(own_folder(context, hierarchy));
      one.optional = true;
    }
    steps.push_back(one);
    if (hierarchy.version == 2 || hierarchy.controllers.size() < 2) continue;
    for (const std::string& controller : hierarchy.controllers) {
      if (controller == name || controller.find('=') != std::string::npos) continue;
      child::MountStep link;
      link.kind = child::MountKind::kLink;
      link.destination = arena.text(std::string(step.destination) + "/" + controller);
      link.source = arena.text(name);
      steps.push_back(link);
    }
  }
  if ((step.attr_set & MOUNT_ATTR_RDONLY) != 0) {
    child::MountStep seal;
    seal.kind = child::MountKind::kAttribute;
    seal.destination = step.destination;
    seal.attr_set = MOUNT_ATTR_RDONLY;
    steps.push_back(seal);
  }
  return {};
}

}  // namespace hull::runtime
