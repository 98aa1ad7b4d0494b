#include "runtime/device_plan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <set>

#include "base/error_format.h"
#include "isolation/defaults.h"
#include "isolation/namespaces.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::runtime {
namespace {

Result<mode_t> device_type(const oci::Device& device) {
  if (device.type == "c" || device.type == "u") return static_cast<mode_t>(S_IFCHR);
  if (device.type == "b") return static_cast<mode_t>(S_IFBLK);
  if (device.type == "p") return static_cast<mode_t>(S_IFIFO);
  return errorf(ErrorKind::kInvalid, "type \"{}\": expected c, b, u or p", device.type);
}

/// A detached bind of the host's node, where mknod is refused. It must be the device that was asked for.
Result<UniqueFd> host_node(const std::string& path, mode_t type, dev_t number) {
  TRY_ASSIGN(UniqueFd tree, sys::clone_mount(AT_FDCWD, path, false));
  TRY(sys::set_mount_attributes(tree.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0, MS_PRIVATE, false));
  struct stat info{};
  if (::fstat(tree.get(), &info) != 0) return errnof("stat {}", path);
  if ((info.st_mode & S_IFMT) != type || info.st_rdev != number) {
    return errorf(ErrorKind::kConflict,
                  "{} of this host is another device than asked for, and mknod is not allowed here", path);
  }
  return tree;
}

/// Nodes for a container in a user namespace, made by the host's root on a tmpfs that is mounted nowhere: only nodes
/// of a file system that the host's user namespace owns work as devices.
class NodeMaker {
 public:
  Result<UniqueFd> make(const child::DeviceStep& device, uid_t uid, gid_t gid) {
    if (!folder_) {
      TRY_ASSIGN(folder_, sys::make_mount("tmpfs", "hull-dev", {{"mode", "755", false}, {"nr_inodes", "1024", false}},
                                          MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
    }
    const std::string name = fmt::to_string(count_++);
    if (::mknodat(folder_.get(), name.c_str(), device.mode, device.device) != 0 ||
        ::fchmodat(folder_.get(), name.c_str(), device.mode & 07777U, 0) != 0 ||
        ::fchownat(folder_.get(), name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return errnof("make device /{}", device.path);
    }
    // Copying from a tree that is mounted nowhere needs Linux 6.15; before, the host's own node serves.
    return sys::clone_mount(folder_.get(), name, false, false);
  }

 private:
  UniqueFd folder_;
  int count_ = 0;
};

}  // namespace

Result<void> plan_devices(const oci::Spec& spec, const MountContext& context, Arena& arena, std::vector<UniqueFd>& fds,
                          child::ContainerPlan& plan) {
  std::vector<child::DeviceStep> steps;
  std::set<std::string> seen;
  NodeMaker nodes;
  const auto add = [&](const std::string& path, mode_t mode, dev_t number, uid_t uid, gid_t gid) -> Result<void> {
    const std::string clean = sys::clean_path(path);
    if (clean.empty()) return errorf(ErrorKind::kInvalid, "an empty path");
    if (!seen.insert(clean).second) return {};
    child::DeviceStep step;
    step.path = arena.text(clean);
    step.mode = mode;
    step.device = number;
    step.uid = uid;
    step.gid = gid;
    const bool is_fifo = (mode & S_IFMT) == S_IFIFO;
    if (!context.make_nodes && !is_fifo) {
      if (context.prepare) {
        TRY_ASSIGN(const uid_t host_uid, isolation::map_to_host(context.maps.uids, uid, "uid"));
        TRY_ASSIGN(const gid_t host_gid, isolation::map_to_host(context.maps.gids, gid, "gid"));
        auto tree = nodes.make(step, host_uid, host_gid);
        if (!tree.ok()) tree = host_node("/" + clean, mode & S_IFMT, number);
        if (!tree.ok()) return std::move(tree).error();
        fds.push_back(std::move(*tree));
        step.tree_fd = fds.back().get();
      } else {
        step.bind_host = true;
      }
    }
    steps.push_back(step);
    return {};
  };
  if (spec.linux_config) {
    for (size_t i = 0; i < spec.linux_config->devices.size(); ++i) {
      const oci::Device& device = spec.linux_config->devices[i];
      auto planned = [&]() -> Result<void> {
        TRY_ASSIGN(const mode_t type, device_type(device));
        return add(device.path, type | (device.file_mode.value_or(0666) & 07777U),
                   makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor)),
                   device.uid.value_or(0), device.gid.value_or(0));
      }();
      if (!planned.ok()) {
        return std::move(planned).error().context(fmt::format("linux.devices[{}] ({})", i, device.path));
      }
    }
  }
  for (const isolation::DefaultDevice& device : isolation::kDefaultDevices) {
    auto planned = add(device.path, S_IFCHR | isolation::kDefaultDeviceMode, makedev(device.major, device.minor), 0, 0);
    if (!planned.ok()) return std::move(planned).error().context(device.path);
  }
  plan.devices = arena.copy(steps);

  std::vector<child::LinkStep> links;
  for (const isolation::DefaultLink& link : isolation::kDefaultLinks) {
    links.push_back({arena.text(fmt::format("dev/{}", link.name)), link.target});
  }
  if (sys::exists("/proc/kcore")) links.push_back({"dev/core", "/proc/kcore"});
  plan.links = arena.copy(links);
  return {};
}

}  // namespace hull::runtime
