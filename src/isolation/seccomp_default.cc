// The effect of Docker's default seccomp profile, as data of Hull's own.
//
// The facts are those of moby's profiles/seccomp (default.json, 2026): what is allowed to everybody, what a capability
// opens, and what depends on the architecture or the kernel. Everything else answers EPERM, and what is newer than
// everything named here ENOSYS (see seccomp.cc).

#include <linux/sched.h>
#include <sys/utsname.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "isolation/capabilities.h"
#include "isolation/seccomp.h"

namespace hull::isolation {

namespace {

constexpr const char* kAlways[] = {
    // clang-format off
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir",
    "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range",
    "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve",
    "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate",
    "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl",
    "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "getcpu", "getcwd", "getdents",
    "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
    "getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list", "getrusage", "getsid", "getsockname",
    "getsockopt", "get_thread_area", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup", "io_submit",
    "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32",
    "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr", "_llseek",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall",
    "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
    "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl",
    "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep",
    "newfstatat", "_newselect", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe",
    "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64",
    "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6", "pselect6_time64", "pwrite64", "pwritev",
    "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg",
    "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat",
    "renameat2", "restart_syscall", "riscv_hwprobe", "rmdir", "rseq", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send",
    "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
    "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority", "setregid",
    "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit",
    "set_robust_list", "setsid", "setsockopt", "set_thread_area", "set_tid_address", "setuid", "setuid32",
    "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs",
    "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee",
    "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink",
    "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4",
    "waitid", "waitpid", "write", "writev",
    // clang-format on
};

/// Allowed to a container whose bounding set has the capability.
struct CapabilityRule {
  const char* capability;
  std::array<const char*, 26> names;  // ends at nullptr
};
constexpr CapabilityRule kByCapability[] = {
    // clang-format off
    {"CAP_DAC_READ_SEARCH", {"open_by_handle_at"}},
    {"CAP_SYS_ADMIN", {
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
        "syslog", "umount", "umount2", "unshare"
    }},
    {"CAP_SYS_BOOT", {"reboot"}},
    {"CAP_SYS_CHROOT", {"chroot"}},
    {"CAP_SYS_MODULE", {"delete_module", "init_module", "finit_module"}},
    {"CAP_SYS_PACCT", {"acct"}},
    {"CAP_SYS_PTRACE", {
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"
    }},
    {"CAP_SYS_RAWIO", {"iopl", "ioperm"}},
    {"CAP_SYS_TIME", {"settimeofday", "stime", "clock_settime", "clock_settime64"}},
    {"CAP_SYS_TTY_CONFIG", {"vhangup"}},
    {"CAP_SYS_NICE", {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"}},
    {"CAP_SYSLOG", {"syslog"}},
    {"CAP_BPF", {"bpf"}},
    {"CAP_PERFMON", {"perf_event_open"}},
    // clang-format on
};

#if defined(__x86_64__)
constexpr std::array<const char*, 3> kArchitectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
constexpr std::array<const char*, 2> kByArchitecture = {"arch_prctl", "modify_ldt"};
#elif defined(__aarch64__)
constexpr std::array<const char*, 2> kArchitectures = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
constexpr std::array<const char*, 6> kByArchitecture = {"arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2",
                                                        "breakpoint",       "cacheflush",          "set_tls"};
#elif defined(__powerpc64__)
constexpr std::array<const char*, 1> kArchitectures = {"SCMP_ARCH_PPC64LE"};
constexpr std::array<const char*, 2> kByArchitecture = {"sync_file_range2", "swapcontext"};
#elif defined(__s390x__)
constexpr std::array<const char*, 2> kArchitectures = {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"};
constexpr std::array<const char*, 3> kByArchitecture = {"s390_pci_mmio_read", "s390_pci_mmio_write",
                                                        "s390_runtime_instr"};
#elif defined(__riscv)
constexpr std::array<const char*, 1> kArchitectures = {"SCMP_ARCH_RISCV64"};
constexpr std::array<const char*, 1> kByArchitecture = {"riscv_flush_icache"};
#else
constexpr std::array<const char*, 0> kArchitectures = {};
constexpr std::array<const char*, 0> kByArchitecture = {};
#endif

/// From Linux 4.8 on a tracer can't get around the filter any more.
constexpr const char* kSinceLinux48[] = {"process_vm_readv", "process_vm_writev", "ptrace"};

bool kernel_at_least(int major, int minor) {
  utsname host = {};
  if (::uname(&host) != 0) return false;
  char* end = nullptr;
  const long have_major = std::strtol(host.release, &end, 10);
  const long have_minor = *end == '.' ? std::strtol(end + 1, nullptr, 10) : 0;
  return have_major > major || (have_major == major && have_minor >= minor);
}

oci::SeccompRule allow(std::vector<std::string> names) {
  return {.names = std::move(names), .action = "SCMP_ACT_ALLOW", .errno_ret = {}, .args = {}};
}

oci::SeccompRule allow_if(const char* name, uint32_t argument, uint64_t value, const char* op) {
  oci::SeccompRule rule = allow({name});
  rule.args.push_back({.index = argument, .value = value, .value_two = 0, .op = op});
  return rule;
}

}  // namespace

oci::Seccomp default_seccomp(uint64_t capabilities) {
  const auto has = [&](std::string_view name) {
    const std::optional<int> number = capability_number(name);
    return number && (capabilities >> *number & 1U) != 0;
  };
  oci::Seccomp out;
  out.default_action = "SCMP_ACT_ERRNO";
  out.default_errno_ret = EPERM;
  out.architectures.assign(kArchitectures.begin(), kArchitectures.end());
  oci::SeccompRule always = allow({std::begin(kAlways), std::end(kAlways)});
  always.names.insert(always.names.end(), kByArchitecture.begin(), kByArchitecture.end());
  if (kernel_at_least(4, 8)) {
    always.names.insert(always.names.end(), std::begin(kSinceLinux48), std::end(kSinceLinux48));
  }
  for (const CapabilityRule& rule : kByCapability) {
    if (!has(rule.capability)) continue;
    for (const char* name : rule.names) {
      if (name != nullptr) always.names.emplace_back(name);
    }
  }
  out.syscalls.push_back(std::move(always));

  // Sockets of every family but AF_ALG (38) and AF_VSOCK (40).
  out.syscalls.push_back(allow_if("socket", 0, 38, "SCMP_CMP_LT"));
  out.syscalls.push_back(allow_if("socket", 0, 39, "SCMP_CMP_EQ"));
  out.syscalls.push_back(allow_if("socket", 0, 40, "SCMP_CMP_GT"));
  // PER_LINUX, PER_LINUX32, with UNAME26, and "only tell me".
  for (const uint64_t personality : {0x0ULL, 0x8ULL, 0x20000ULL, 0x20008ULL, 0xffffffffULL}) {
    out.syscalls.push_back(allow_if("personality", 0, personality, "SCMP_CMP_EQ"));
  }
  if (!has("CAP_SYS_ADMIN")) {
    // clone with none of the namespace flags. Where the flags stand differs on s390.
    constexpr uint64_t kNamespaces =
        CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
#if defined(__s390__) || defined(__s390x__)
    constexpr uint32_t kFlagsArgument = 1;
#else
    constexpr uint32_t kFlagsArgument = 0;
#endif
    out.syscalls.push_back(allow_if("clone", kFlagsArgument, kNamespaces, "SCMP_CMP_MASKED_EQ"));
    // clone3's flags lie in memory, where a filter can't look; C libraries fall back to clone on ENOSYS.
    out.syscalls.push_back({.names = {"clone3"}, .action = "SCMP_ACT_ERRNO", .errno_ret = ENOSYS, .args = {}});
  }
  return out;
}

}  // namespace hull::isolation
