#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/log.h"
#include "vmm/jail.h"
#include "vmm/seccomp_filter.h"

namespace hull::vmm {

namespace {
using Rules = std::vector<SyscallRule>;
using When = SyscallRule::When;

SyscallRule allow(long number) { return {.number = static_cast<int>(number)}; }
SyscallRule allow_if(long number, unsigned argument, std::vector<uint32_t> values) {
  return {static_cast<int>(number), When::kArgumentIs, argument, std::move(values), 0};
}
SyscallRule allow_without(long number, unsigned argument, uint32_t bits) {
  return {static_cast<int>(number), When::kArgumentHasNone, argument, {bits}, 0};
}
SyscallRule refuse(long number, int error) { return {static_cast<int>(number), When::kAlways, 0, {}, error}; }

void add(Rules& rules, std::initializer_list<long> numbers) {
  for (const long number : numbers) rules.push_back(allow(number));
}

/// What the C library does for any thread: locks, memory (never executable), its own end.
void add_common(Rules& rules) {
  add(rules, {SYS_futex,
              SYS_write,
              SYS_read,
              SYS_close,
              SYS_munmap,
              SYS_brk,
              SYS_mremap,
              SYS_madvise,
              SYS_rt_sigprocmask,
              SYS_rt_sigreturn,
              SYS_restart_syscall,
              SYS_sched_yield,
              SYS_clock_gettime,
              SYS_gettimeofday,
              SYS_time,
              SYS_getpid,
              SYS_gettid,
              SYS_exit,
              SYS_exit_group,
              SYS_poll,
              SYS_set_robust_list,
              SYS_sigaltstack});
  rules.push_back(allow_without(SYS_mmap, 2, PROT_EXEC));
  rules.push_back(allow_without(SYS_mprotect, 2, PROT_EXEC));
  rules.push_back(allow(SYS_tgkill));
}

/// A processor runs the guest and answers for the small devices; the console's log is the only file it touches.
Rules vcpu_rules() {
  Rules rules{allow_if(SYS_ioctl, 1, {KVM_RUN, KVM_GET_REGS})};
  add_common(rules);
  add(rules, {SYS_pread64, SYS_ftruncate});
  return rules;
}

void add_events(Rules& rules) {
  add(rules, {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl, SYS_timerfd_settime, SYS_fcntl});
}

void add_files(Rules& rules) {
  add(rules, {SYS_io_uring_enter, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_pread64, SYS_pwrite64,
              SYS_fdatasync, SYS_fsync, SYS_fallocate, SYS_fstat, SYS_newfstatat, SYS_lseek});
}

void add_sockets(Rules& rules) {
  rules.push_back(allow_if(SYS_socket, 0, {AF_UNIX}));
  add(rules, {SYS_connect, SYS_accept4, SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_shutdown,
              SYS_getsockopt, SYS_setsockopt, SYS_readv, SYS_writev});
}

void add_tap(Rules& rules) {
  add(rules, {SYS_readv, SYS_writev, SYS_recvmsg, SYS_sendmsg});
  rules.push_back(allow_if(SYS_ioctl, 1, {TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETQUEUE}));
}

/// Starts and stops the devices' threads, which inherit this filter and add a narrower one of their own.
Rules launcher_rules() {
  Rules rules;
  add_common(rules);
  add_events(rules);
  add_files(rules);
  add_sockets(rules);
  // The machine's lines and doorbells, for devices that come later.
  rules.push_back(
      allow_if(SYS_ioctl, 1, {TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETQUEUE, TUNGETIFF, KVM_IRQFD, KVM_IOEVENTFD}));
  // Threads, nothing else: clone3 hides its flags from the filter, and the C library takes clone in its place.
  rules.push_back(refuse(SYS_clone3, ENOSYS));
  rules.push_back(allow_if(SYS_clone, 0,
                           {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                            CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID}));
  rules.push_back(allow_if(SYS_unshare, 0, {CLONE_FS}));
  add(rules, {SYS_rseq, SYS_sched_getaffinity, SYS_prctl, SYS_seccomp, SYS_epoll_create1, SYS_eventfd2,
              SYS_timerfd_create, SYS_fchdir, SYS_getrandom, SYS_dup3, SYS_prlimit64});
  return rules;
}

/// Starts the devices' threads too. The first thread of a process makes the C library install a signal handler.
Rules vhost_user_rules() {
  Rules rules = launcher_rules();
  rules.push_back(allow(SYS_rt_sigaction));
  return rules;
}

Rules block_rules() {
  Rules rules;
  add_events(rules);
  add_files(rules);
  add_common(rules);
  return rules;
}

Rules net_rules() {
  Rules rules;
  add_events(rules);
  add_tap(rules);
  add_common(rules);
  return rules;
}

Rules vsock_rules() {
  Rules rules;
  add_events(rules);
  add_sockets(rules);
  add_common(rules);
  return rules;
}

Rules console_rules() {
  Rules rules;
  add_events(rules);
  add(rules, {SYS_readv, SYS_writev});
  add_common(rules);
  return rules;
}

Rules other_device_rules() {
  Rules rules;
  add_events(rules);
  add(rules, {SYS_getrandom, SYS_fallocate, SYS_recvmsg, SYS_sendmsg, SYS_pread64});
  add_common(rules);
  return rules;
}

/// Waits for signals, the end, and the control socket's clients; kicks processors; joins threads.
Rules main_rules() {
  Rules rules;
  add_events(rules);
  add(rules, {SYS_accept4, SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_shutdown, SYS_getsockopt,
              SYS_pread64, SYS_ftruncate, SYS_fstat, SYS_newfstatat, SYS_getppid, SYS_getrusage});
  add_common(rules);
  return rules;
}

Rules debugged_main_rules() {
  Rules rules = main_rules();
  rules.push_back(allow_if(SYS_ioctl, 1,
                           {KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_FPU, KVM_SET_FPU,
                            KVM_TRANSLATE, KVM_SET_GUEST_DEBUG}));
  rules.push_back(allow(SYS_setsockopt));
  return rules;
}

Rules rules_of(ThreadKind kind) {
  switch (kind) {
    case ThreadKind::kVcpu:
      return vcpu_rules();
    case ThreadKind::kLauncher:
      return launcher_rules();
    case ThreadKind::kMain:
      return main_rules();
    case ThreadKind::kDebuggedMain:
      return debugged_main_rules();
    case ThreadKind::kBlock:
      return block_rules();
    case ThreadKind::kNet:
      return net_rules();
    case ThreadKind::kVsock:
      return vsock_rules();
    case ThreadKind::kConsole:
      return console_rules();
    case ThreadKind::kOtherDevice:
      return other_device_rules();
    case ThreadKind::kVhostUser:
      return vhost_user_rules();
  }
  return {};
}
}  // namespace

ThreadKind device_thread_kind(std::string_view worker_kind) {
  if (worker_kind == "block") return ThreadKind::kBlock;
  if (worker_kind == "net") return ThreadKind::kNet;
  if (worker_kind == "vsock") return ThreadKind::kVsock;
  if (worker_kind == "console") return ThreadKind::kConsole;
  return ThreadKind::kOtherDevice;
}

void confine_thread(ThreadKind kind) {
  const std::vector<sock_filter> program = assemble_filter(rules_of(kind));
  if (const Result<void> installed = install_filter(program); !installed.ok()) {
    log_error("hull-vmm: {}", installed.error().message());
    ::_exit(1);
  }
}

}  // namespace hull::vmm
