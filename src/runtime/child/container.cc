// The first process of a container, from clone to exec. It reads as the list of its steps.
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/prctl.h>
#include <linux/sockios.h>

#include "runtime/child/common.h"

namespace hull::runtime::child {
namespace {

void join_user_namespace(const ContainerPlan& plan) {
  if (plan.wait_maps) wait_for_parent();
  uint32_t index = 0;
  for (const JoinStep& join : plan.joins) check(raw::setns(join.fd, join.type), Step::kJoinNamespace, index++);
  if (plan.stage) {
    // The pid namespace must belong to the user namespace that was joined just now, so its first process is cloned
    // from in here; CLONE_PARENT makes it the runtime's own child.
    struct {
      uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } const arguments{plan.clone_flags | CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0};
    const long pid = raw::call(SYS_clone3, raw::address(&arguments), sizeof arguments);
    if (pid < 0) fail(Step::kClone, pid);
    if (pid > 0) {
      send(Kind::kStage, Step::kNone, 0, static_cast<uint32_t>(pid));
      raw::exit(0);
    }
    raw::prctl(PR_SET_PDEATHSIG, 9);
    wait_for_parent();
  }
  if (!plan.become_root) return;
  // Root of the new user namespace owns what is made from here on.
  if (plan.clear_groups) raw::setgroups(0, nullptr);
  check(raw::setresgid(0), Step::kBecomeRoot);
  check(raw::setresuid(0), Step::kBecomeRoot);
  // Changing ids made this process dumpable by its new user's rules; it still holds the host's tree.
  raw::prctl(PR_SET_DUMPABLE, 0);
}

void bring_up_loopback() {
  const Fd socket(raw::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return;
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  if (raw::ioctl(socket.get(), SIOCGIFFLAGS, raw::address(&request)) < 0) return;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP | IFF_RUNNING);
  raw::ioctl(socket.get(), SIOCSIFFLAGS, raw::address(&request));
}

void set_names(const ContainerPlan& plan) {
  if (plan.hostname != nullptr) {
    check(raw::sethostname(plan.hostname, length(plan.hostname)), Step::kHostname);
  }
  if (plan.domainname != nullptr) {
    check(raw::setdomainname(plan.domainname, length(plan.domainname)), Step::kDomainname);
  }
}

/// The parent's byte, with the files that take us into the v1 groups.
void receive_cgroups() {
  constexpr size_t kMost = 32;
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(kMost * sizeof(int))];
  msghdr message;
  message.msg_name = nullptr;
  message.msg_namelen = 0;
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  message.msg_flags = 0;
  long got = 0;
  do {
    got = raw::call(SYS_recvmsg, g_channel.fd, raw::address(&message), MSG_CMSG_CLOEXEC);
  } while (got == -kEintr);
  if (got != 1) raw::exit(1);
  if (message.msg_controllen < sizeof(cmsghdr)) return;
  const auto* header = reinterpret_cast<const cmsghdr*>(control);
  if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return;
  int fds[kMost];
  const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  copy_bytes(reinterpret_cast<char*>(fds), control + CMSG_LEN(0), count * sizeof(int));
  join_cgroups({fds, count});
}

/// Waits until `start` connects; that connection is where a failed exec is told from now on.
void wait_at_gate(const ContainerPlan& plan) {
  send(Kind::kReady, Step::kGate, 0, 0);
  wait_for_parent();
  if (plan.gate == Gate::kSocket) return;
  raw::close(g_channel.fd);
  g_channel.fd = -1;
  for (;;) {
    const long connection = raw::accept4(plan.gate_fd, SOCK_CLOEXEC);
    if (connection == -kEintr || connection == -103 /* ECONNABORTED */) continue;
    if (connection < 0) raw::exit(1);
    char byte = 0;
    long got = 0;
    do {
      got = raw::read(static_cast<int>(connection), &byte, 1);
    } while (got == -kEintr);
    // Anything else was someone looking whether the gate is still closed.
    if (got == 1 && byte == 'S') {
      g_channel.fd = static_cast<int>(connection);
      raw::close(plan.gate_fd);
      return;
    }
    raw::close(static_cast<int>(connection));
  }
}

}  // namespace

void run_container(ContainerPlan& plan) {
  g_channel.fd = plan.report_fd;
  raw::prctl(PR_SET_PDEATHSIG, 9);
  join_user_namespace(plan);
  check(raw::setsid(), Step::kSession);
  if (plan.unshare != 0) check(raw::unshare(plan.unshare), Step::kNewNamespaces);
  if (plan.time_offsets != nullptr) {
    // Files of a process that is not dumpable belong to the host's root; nobody else is in this namespace yet.
    raw::prctl(PR_SET_DUMPABLE, 1);
    const WriteStep offsets{"self/timens_offsets", plan.time_offsets, length(plan.time_offsets), nullptr};
    write_proc(plan.proc_fd, offsets, Step::kTimeOffsets, 0);
    raw::prctl(PR_SET_DUMPABLE, 0);
  }
  join_session_keyring(plan.process, plan.proc_fd);
  if (plan.loopback) bring_up_loopback();
  raw::umask(0);
  set_names(plan);
  uint32_t index = 0;
  for (const WriteStep& sysctl : plan.sysctls) write_proc(plan.proc_fd, sysctl, Step::kSysctl, index++);
  // As late as can be: the parent makes the groups meanwhile. Their namespace must come after joining, so that the
  // container sees its own group as "/".
  if (plan.wait_cgroup) receive_cgroups();
  if (plan.new_cgroup_namespace) check(raw::unshare(CLONE_NEWCGROUP), Step::kCgroupNamespace);
  if (plan.report_setup) {
    send(Kind::kAtSetup, Step::kNone, 0, 0);
    wait_for_parent();
  }
  if (plan.new_mount_namespace) {
    set_up_root(plan);
    if (plan.setup_dev) set_up_dev(plan);
    if (plan.process.terminal) set_up_console(plan.process, plan.root_fd, true);
    hide_paths(plan);
    if (plan.report_pivot) {
      send(Kind::kAtPivot, Step::kNone, 0, 0);
      wait_for_parent();
    }
    enter_root(plan);
  } else {
    if (plan.report_pivot) {
      send(Kind::kAtPivot, Step::kNone, 0, 0);
      wait_for_parent();
    }
    if (plan.root_path != nullptr) {
      check(raw::chdir(plan.root_path), Step::kPivot);
      check(raw::chroot("."), Step::kPivot);
      check(raw::chdir("/"), Step::kPivot);
    }
    if (plan.process.terminal) {
      const Fd root(raw::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
      set_up_console(plan.process, root.get(), false);
    }
  }
  become_user(plan.process, plan.proc_fd);
  char path[4096];
  const char* program = find_program(plan.process, path, sizeof path);
  raw::prctl(PR_SET_PDEATHSIG, 0);
  wait_at_gate(plan);
  execute(plan.process, program);
}

}  // namespace hull::runtime::child
