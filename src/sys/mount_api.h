#pragma once
// The file-descriptor mount API (Linux 5.2; mount_setattr 5.12). Nothing here attaches by path.

#include <sys/mount.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

namespace hull::sys {

/// One parameter of a file system: a flag has no value.
struct FsParameter {
  std::string key;
  std::string value;
  bool is_flag = false;
};

/// A detached mount of a new (or, where the type shares one, existing) super block. The error carries what the kernel
/// wrote to the context's log.
Result<UniqueFd> make_mount(const std::string& type, const std::string& source,
                            const std::vector<FsParameter>& parameters, uint64_t attributes);
/// A detached copy of the mount tree at dir_fd/path (path "" takes dir_fd itself).
Result<UniqueFd> clone_mount(int dir_fd, const std::string& path, bool recursive, bool follow = true);
/// Changes attributes of the mount at fd. propagation is MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE or 0.
Result<void> set_mount_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive);
/// Gives a detached mount the id mapping of a user namespace (Linux 5.12, file system permitting).
Result<void> set_mount_idmap(int fd, int userns_fd, bool recursive);
/// Attaches a mount at dir_fd/path, both by descriptor when path is "".
Result<void> attach_mount(int mount_fd, int dir_fd, const std::string& path);

}  // namespace hull::sys
