#pragma once
// Root and mounts of config.json as the child's steps. Binds, idmaps and the overlay root are prepared here, with the
// runtime's rights and names, as detached mounts; what belongs to the container's namespaces is made by the child.

#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "isolation/cgroup.h"
#include "oci/runtime_spec.h"
#include "runtime/arena.h"
#include "runtime/mount_options.h"
#include "runtime/user_namespace.h"

namespace hull::runtime {

struct MountContext {
  std::string bundle;
  bool prepare = true;          ///< false: not allowed to mount here (rootless); the child does it all by path
  bool user_namespace = false;  ///< the container has its own
  bool make_nodes = true;       ///< mknod works there
  bool cgroup_namespace = false;
  const isolation::CgroupHost* cgroup_host = nullptr;
  const isolation::Cgroup* cgroup = nullptr;
  IdMaps maps;  ///< of the container's user namespace
};

/// Fills root_fd, mounts, devices, links, masks of `plan`. `fds` keeps the descriptors that the plan names.
Result<void> plan_mounts(const oci::Spec& spec, const MountContext& context, Arena& arena, std::vector<UniqueFd>& fds,
                         child::ContainerPlan& plan);
/// Where root.path leads, absolute. kNotFound when it is not a folder.
Result<std::string> resolve_rootfs(const oci::Spec& spec, const std::string& bundle);

}  // namespace hull::runtime
