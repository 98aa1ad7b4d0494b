#include "engine/image_view.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"

namespace hull::engine {

Result<std::string> join_lower_dirs(const std::vector<std::string>& folders) {
  std::string joined;
  for (const std::string& folder : folders) {
    if (folder.find_first_of(":,\\\"\n") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "folder \"{}\" can't be an overlay layer: its path holds one of : , \\ \"",
                    folder);
    }
    if (!joined.empty()) joined += ':';
    joined += folder;
  }
  return joined;
}

Result<sys::Root> open_stack(const std::vector<std::string>& folders) {
  if (folders.size() == 1) return sys::Root::open(folders[0]);
  if (folders.empty()) return errorf(ErrorKind::kInternal, "an image without layers has no view");
  TRY_ASSIGN(const std::string lower, join_lower_dirs(folders));
  const UniqueFd context(static_cast<int>(::syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!context) return errno_error("open an overlay");
  // One string holds up to 255 bytes in fsconfig; "lowerdir+" takes a folder at a time (Linux 6.8).
  for (const std::string& folder : folders) {
    if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, "lowerdir+", folder.c_str(), 0) != 0) {
      if (&folder != &folders.front()) return errnof("overlay layer {}", folder);
      if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, "lowerdir", lower.c_str(), 0) != 0) {
        return errnof("overlay of {} layers", folders.size());
      }
      break;
    }
  }
  if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return errnof("overlay of {} layers", folders.size());
  }
  UniqueFd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                                            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)));
  if (!mount) return errno_error("mount an overlay");
  return sys::Root::adopt(std::move(mount));
}

}  // namespace hull::engine
