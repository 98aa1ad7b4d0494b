#include "vm/confine.h"

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"

namespace hull::vm {

Result<void> confine(const std::string& folder, const std::string& shares) {
  // virtiofsd has its own mount namespace, made when the machine was launched.
  if (!shares.empty() && ::umount2(shares.c_str(), MNT_DETACH) != 0)
    return errnof("take away the mounts at {}", shares);
  if (::chdir(folder.c_str()) != 0 || ::chroot(".") != 0) return errnof("confine the supervisor to {}", folder);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("give up new privileges");
  __user_cap_header_struct header{};
  header.version = _LINUX_CAPABILITY_VERSION_3;
  __user_cap_data_struct sets[2]{};
  sets[0].permitted = sets[0].effective = 1U << CAP_KILL;
  if (::syscall(SYS_capset, &header, sets) != 0) return errno_error("drop capabilities");
  return {};
}

}  // namespace hull::vm
