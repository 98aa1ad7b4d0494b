// A later process in a running container.
#include <linux/prctl.h>

#include "runtime/child/common.h"

namespace hull::runtime::child {

void run_exec(const ExecPlan& plan) {
  g_channel.fd = plan.report_fd;
  if (plan.wait_go) wait_for_parent();
  join_cgroups(plan.cgroup_fds);
  if (plan.namespaces != 0) {
    check(raw::setns(plan.init_pidfd, plan.namespaces), Step::kJoinNamespace);
  }
  if (plan.root_fd >= 0) {
    check(raw::fchdir(plan.root_fd), Step::kPivot);
    check(raw::chroot("."), Step::kPivot);
    check(raw::chdir("/"), Step::kPivot);
  }
  if (plan.become_root) {
    raw::setgroups(0, nullptr);
    check(raw::setresgid(0), Step::kBecomeRoot);
    check(raw::setresuid(0), Step::kBecomeRoot);
    raw::prctl(PR_SET_DUMPABLE, 0);
  }
  check(raw::setsid(), Step::kSession);
  join_session_keyring(plan.process, plan.proc_fd);
  if (plan.process.terminal) {
    const Fd root(raw::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
    if (!root.valid()) fail(Step::kConsole, root.error());
    set_up_console(plan.process, root.get(), false);
  }
  become_user(plan.process, plan.proc_fd);
  char path[4096];
  const char* program = find_program(plan.process, path, sizeof path);
  execute(plan.process, program);
}

}  // namespace hull::runtime::child
