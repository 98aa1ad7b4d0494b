#include "vmm/jail.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>

#include "base/error_format.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace hull::vmm {

namespace {
constexpr rlim_t kMostDescriptors = 4096;
constexpr int kLastCapability = 63;

pid_t first_parent = 0;

void lower_limit(__rlimit_resource resource, rlim_t most) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max = std::min(limit.rlim_max, most);
  ::setrlimit(resource, &limit);
}

Result<void> write_once(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return errnof("write {}", path);
  }
  return {};
}

/// The user stays who it is: files that are opened later (a socket's folder) are still its own.
Result<void> map_own_user(uid_t user, gid_t group) {
  TRY(write_once("/proc/self/setgroups", "deny"));
  TRY(write_once("/proc/self/uid_map", fmt::format("{0} {0} 1", user)));
  return write_once("/proc/self/gid_map", fmt::format("{0} {0} 1", group));
}

/// False when this process may not make namespaces at all.
Result<bool> make_namespaces() {
  constexpr int kOthers = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
  const uid_t user = ::geteuid();
  const gid_t group = ::getegid();
  if (::unshare(CLONE_NEWUSER | kOthers) == 0) {
    TRY(map_own_user(user, group));
    return true;
  }
  return ::unshare(kOthers) == 0;
}

/// A read-only tmpfs without any file becomes the root, and the old tree is gone from this namespace.
Result<void> leave_file_system() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno_error("make mounts private");
  // Any folder does as the place; nothing is ever looked up in it.
  constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (::mount("none", "/proc", "tmpfs", kFlags, "size=4k,nr_inodes=1,mode=0555") != 0) {
    return errno_error("mount an empty root");
  }
  if (::chdir("/proc") != 0) return errno_error("enter the empty root");
  if (::syscall(SYS_pivot_root, ".", ".") == 0) {
    if (::umount2(".", MNT_DETACH) != 0) return errno_error("leave the old root");
  } else if (errno == EINVAL) {
    // The root is the initramfs, which can't be pivoted away: cover it. Out of a chroot leads only a capability.
    if (::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0) return errno_error("cover the initramfs");
    if (::chroot(".") != 0) return errno_error("enter the empty root");
  } else {
    return errno_error("pivot into the empty root");
  }
  if (::chdir("/") != 0) return errno_error("enter the empty root");
  if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kFlags, nullptr) != 0) {
    return errno_error("make the empty root read-only");
  }
  return {};
}

Result<void> drop_capabilities() {
  for (int capability = 0; capability <= kLastCapability; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;  // EINVAL: behind the last, EPERM: has no right to
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return errno_error("drop capabilities");
  return {};
}
}  // namespace

Result<void> close_other_descriptors(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned first = 3;
  for (const int fd : kept) {
    if (fd < 3) continue;
    const auto next = static_cast<unsigned>(fd);
    if (next > first && ::syscall(SYS_close_range, first, next - 1, 0) != 0) return errno_error("close descriptors");
    first = std::max(first, next + 1);
  }
  if (::syscall(SYS_close_range, first, ~0u, 0) != 0) return errno_error("close descriptors");
  return {};
}

void die_with_parent() {
  if (first_parent == 0) first_parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != first_parent) ::raise(SIGKILL);  // it ended in between
}

Result<bool> begin_jail() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("set no_new_privs");
  return make_namespaces();
}

Result<bool> enter_jail() {
  TRY_ASSIGN(const bool separate, begin_jail());
  TRY(finish_jail(separate));
  return separate;
}

Result<void> finish_jail(bool separate) {
  if (separate) TRY(leave_file_system());
  TRY(drop_capabilities());
  lower_limit(RLIMIT_NOFILE, kMostDescriptors);
  lower_limit(RLIMIT_CORE, 0);
  lower_limit(RLIMIT_MEMLOCK, 0);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // A change of credentials has cleared it.
  if (first_parent != 0) die_with_parent();
  return {};
}

}  // namespace hull::vmm
