#include "net/dns/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/error_format.h"
#include "sys/seccomp_filter.h"

namespace hull::net::dns {
namespace {

using sys::SyscallRule;
using When = SyscallRule::When;
using Rules = std::vector<SyscallRule>;

constexpr uid_t kNobody = 65534;
constexpr rlim_t kMostWorkerMemory = 192 << 20;

// setns, /proc/PID/ns of any user's processes, rules and port 53; the worker's user and root; ending an old worker.
constexpr std::array kKeeperCapabilities{CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN,  CAP_NET_BIND_SERVICE,
                                         CAP_SETUID,    CAP_SETGID,     CAP_SYS_CHROOT, CAP_KILL};

void add(Rules& rules, std::initializer_list<long> numbers) {
  for (const long number : numbers) rules.push_back({static_cast<int>(number), When::kAlways, 0, {}, 0});
}

// What answering needs: sockets that are there, new ones to servers, time, memory that is never executable.
void add_common(Rules& rules) {
  add(rules, {SYS_epoll_wait,    SYS_recvfrom,    SYS_sendto,         SYS_sendmsg,      SYS_recvmsg,
              SYS_epoll_ctl,     SYS_epoll_pwait, SYS_read,           SYS_write,        SYS_close,
              SYS_accept4,       SYS_connect,     SYS_setsockopt,     SYS_getsockopt,   SYS_shutdown,
              SYS_clock_gettime, SYS_getrandom,   SYS_munmap,         SYS_mremap,       SYS_brk,
              SYS_madvise,       SYS_futex,       SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall,
              SYS_getpid,        SYS_gettid,      SYS_tgkill,         SYS_exit,         SYS_exit_group,
              SYS_fcntl});
  rules.push_back({static_cast<int>(SYS_mmap), When::kArgumentHasNone, 2, {PROT_EXEC}, 0});
  rules.push_back({static_cast<int>(SYS_mprotect), When::kArgumentHasNone, 2, {PROT_EXEC}, 0});
}

Rules worker_rules() {
  Rules rules;
  add_common(rules);
  rules.push_back({static_cast<int>(SYS_socket), When::kArgumentIs, 0, {AF_INET, AF_INET6}, 0});
  return rules;
}

Rules keeper_rules() {
  Rules rules;
  add_common(rules);
  rules.push_back({static_cast<int>(SYS_socket), When::kArgumentIs, 0, {AF_INET, AF_INET6, AF_NETLINK, AF_UNIX}, 0});
  rules.push_back({static_cast<int>(SYS_setns), When::kArgumentIs, 1, {CLONE_NEWNET}, 0});
  add(rules, {SYS_openat,
              SYS_newfstatat,
              SYS_fstat,
              SYS_getdents64,
              SYS_lseek,
              SYS_readlink,
              SYS_readlinkat,
              SYS_access,
              SYS_faccessat,
              SYS_stat,
              SYS_lstat,
              SYS_open,
              SYS_unlink,
              SYS_unlinkat,
              SYS_rename,
              SYS_renameat,
              SYS_mkdir,
              SYS_mkdirat,
              SYS_bind,
              SYS_listen,
              SYS_getsockname,
              SYS_socketpair,
              SYS_inotify_add_watch,
              SYS_inotify_rm_watch,
              SYS_inotify_init1,
              SYS_epoll_create1,
              SYS_pidfd_open,
              SYS_pidfd_send_signal,
              SYS_waitid,
              SYS_wait4,
              SYS_poll,
              SYS_fsync,
              SYS_flock,
              SYS_ftruncate,
              SYS_fchmod,
              SYS_umask,
              SYS_getppid,
              SYS_set_robust_list,
              SYS_set_tid_address,
              SYS_rseq,
              SYS_prctl,
              SYS_capset,
              SYS_capget,
              SYS_setgroups,
              SYS_setresuid,
              SYS_setresgid,
              SYS_chroot,
              SYS_chdir,
              SYS_fchdir,
              SYS_seccomp,
              SYS_prlimit64,
              SYS_setrlimit,
              SYS_getrlimit,
              SYS_close_range,
              SYS_dup2,
              SYS_dup3,
              SYS_getuid,
              SYS_geteuid});
  rules.push_back({static_cast<int>(SYS_ioctl), When::kArgumentIs, 1, {SIOCGIFINDEX}, 0});
  // fork(): no new namespaces.
  rules.push_back(
      {static_cast<int>(SYS_clone),
       When::kArgumentHasNone,
       0,
       {CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP},
       0});
  return rules;
}

Result<void> set_capabilities(uint64_t kept) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  for (unsigned half = 0; half < 2; ++half) {
    data[half].effective = data[half].permitted = static_cast<uint32_t>(kept >> (32 * half));
  }
  if (::syscall(SYS_capset, &header, data.data()) != 0) return errno_error("give up capabilities");
  return {};
}

Result<uint64_t> permitted_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return errno_error("read capabilities");
  return uint64_t{data[1].permitted} << 32 | data[0].permitted;
}

Result<void> forbid_gains() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("set no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return errno_error("become non-dumpable");
  return {};
}

}  // namespace

Result<void> confine_keeper() {
  TRY_ASSIGN(const uint64_t held, permitted_capabilities());
  uint64_t kept = 0;
  for (const int capability : kKeeperCapabilities) kept |= uint64_t{1} << capability;
  for (int capability = 0; capability <= 63; ++capability) {
    if ((kept >> capability & 1) == 0) ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);  // unknown ones fail
  }
  TRY(set_capabilities(kept & held));
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("set no_new_privs");
  return sys::install_filter(sys::assemble_filter(keeper_rules()));
}

Result<void> confine_worker(const std::string& empty_dir) {
  if (::chroot(empty_dir.c_str()) != 0 || ::chdir("/") != 0) return errnof("make {} the root", empty_dir);
  // Without a user of that number (a user namespace of one user) it stays who it is, without capabilities.
  const bool groups = ::syscall(SYS_setgroups, 0, nullptr) == 0;
  const bool group = ::syscall(SYS_setresgid, kNobody, kNobody, kNobody) == 0;
  const bool user = ::syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0;
  if ((!groups || !group || !user) && errno != EINVAL && errno != EPERM) return errno_error("become nobody");
  TRY(set_capabilities(0));
  TRY(forbid_gains());
  const rlimit memory{kMostWorkerMemory, kMostWorkerMemory}, none{0, 0};
  ::setrlimit(RLIMIT_DATA, &memory);
  ::setrlimit(RLIMIT_NPROC, &none);
  ::setrlimit(RLIMIT_CORE, &none);
  return sys::install_filter(sys::assemble_filter(worker_rules()));
}

}  // namespace hull::net::dns
