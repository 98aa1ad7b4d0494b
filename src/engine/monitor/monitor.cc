#include "engine/monitor/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/monitor/loop.h"
#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

Loop g_loop;  // static: its buffers are pages that are only touched when output comes

/// Leaves the rest to the command line program, which knows networks, volumes and the index.
int hand_over(const Options& options) {
  if (options.cleanup_program == nullptr) return 0;
  ::close(kListenFd);
  ::close(kLockFd);
  char hull[] = "hull", internal[] = "internal", cleanup[] = "cleanup";
  static char id[160];
  strncpy(id, options.id, sizeof id - 1);
  char* const argv[] = {hull, internal, cleanup, id, nullptr};
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(options.cleanup_program, argv, environ);
  return 1;
}

}  // namespace

int run(const Options& options) {
  const unsigned first_unused = static_cast<unsigned>(kFirstUnusedFd + options.keep_fds);
  ::syscall(SYS_close_range, first_unused, ~0U, 0);
  ::syscall(SYS_close_range, kControlFd, first_unused - 1, CLOSE_RANGE_CLOEXEC);
  ::prctl(PR_SET_NAME, "hull-monitor");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGQUIT, SIG_IGN);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigaddset(&mask, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  Message failure;
  failure.type = MessageType::kFailed;
  const auto give_up = [&] { return send(kControlFd, failure) ? 1 : hand_over(options); };
  if (::fchdir(kRunFd) != 0) return give_up();

  if (options.log_name != nullptr) {
    const int error = g_loop.log().open(kWorkloadFd, options.log_name, options.log_max_size, options.log_max_files);
    if (error != 0) {
      Text<sizeof failure.text> text;
      text.add("open the log file ").add(options.log_name).add(": ").add(strerrordesc_np(error));
      memcpy(failure.text, text.c_str(), text.size() + 1);
      return give_up();
    }
  }
  Stdio stdio;
  pid_t init = -1;
  if (!create_workload(options, &stdio, &init, &failure)) return give_up();
  const int error = g_loop.set_up(options, kControlFd, stdio, init);
  if (error != 0) {
    ::kill(init, SIGKILL);
    Text<sizeof failure.text> text;
    text.add("monitor: set up: ").add(strerrordesc_np(error));
    memcpy(failure.text, text.c_str(), text.size() + 1);
    return give_up();
  }
  if (g_loop.serve()) return 0;
  return hand_over(options);
}

}  // namespace hull::engine::monitor
