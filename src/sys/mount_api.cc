#include "sys/mount_api.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/error_format.h"

namespace hull::sys {
namespace {

/// What the kernel logged about a failed file system context: lines "e message".
std::string context_log(int fd) {
  std::string text;
  char line[512];
  for (int count = 0; count < 8; ++count) {
    const ssize_t got = ::read(fd, line, sizeof line);
    if (got <= 2) break;
    std::string_view message(line + 2, static_cast<size_t>(got) - 2);
    while (message.ends_with('\n')) message.remove_suffix(1);
    text += text.empty() ? " (" : "; ";
    text += message;
  }
  if (!text.empty()) text += ')';
  return text;
}

Error context_error(int fd, int error_number, const std::string& what) {
  return Error::from_errno(error_number, what + context_log(fd));
}

}  // namespace

Result<UniqueFd> make_mount(const std::string& type, const std::string& source,
                            const std::vector<FsParameter>& parameters, uint64_t attributes) {
  const UniqueFd context(::fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!context) return errnof("file system type {}", type);
  if (!source.empty() && ::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", source.c_str(), 0) != 0) {
    return context_error(context.get(), errno, fmt::format("mount {}: source {}", type, source));
  }
  for (const FsParameter& parameter : parameters) {
    const int failed =
        parameter.is_flag
            ? ::fsconfig(context.get(), FSCONFIG_SET_FLAG, parameter.key.c_str(), nullptr, 0)
            : ::fsconfig(context.get(), FSCONFIG_SET_STRING, parameter.key.c_str(), parameter.value.c_str(), 0);
    if (failed != 0) {
      return context_error(context.get(), errno,
                           fmt::format("mount {}: option {}={:.200}", type, parameter.key, parameter.value));
    }
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return context_error(context.get(), errno, fmt::format("mount {}", type));
  }
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  if (!mount) return context_error(context.get(), errno, fmt::format("mount {}", type));
  return mount;
}

Result<UniqueFd> clone_mount(int dir_fd, const std::string& path, bool recursive, bool follow) {
  // As with mount(2), an automount point is mounted first. (Each folder of virtio-fs that is a mount of the host is
  // one: its bare dentry would be covered by the mount as soon as somebody walks over it.)
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (path.empty()) flags |= AT_EMPTY_PATH | AT_NO_AUTOMOUNT;
  if (recursive) flags |= AT_RECURSIVE;
  if (!follow) flags |= AT_SYMLINK_NOFOLLOW;
  UniqueFd fd(::open_tree(dir_fd, path.c_str(), flags));
  if (!fd) return errnof("take mount of {}", path.empty() ? "descriptor" : path);
  return fd;
}

Result<void> set_mount_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive) {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  attributes.propagation = propagation;
  if (::mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U), &attributes, sizeof attributes) != 0) {
    return errno_error("change mount attributes");
  }
  return {};
}

Result<void> set_mount_idmap(int fd, int userns_fd, bool recursive) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(userns_fd);
  if (::mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U), &attributes, sizeof attributes) != 0) {
    return errno_error("map ids of the mount");
  }
  return {};
}

Result<void> attach_mount(int mount_fd, int dir_fd, const std::string& path) {
  const unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (path.empty() ? MOVE_MOUNT_T_EMPTY_PATH : 0U);
  if (::move_mount(mount_fd, "", dir_fd, path.c_str(), flags) != 0) return errnof("attach mount at {}", path);
  return {};
}

}  // namespace hull::sys
