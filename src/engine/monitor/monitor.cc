#include "engine/monitor/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
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

/// Becomes the command line program, which knows networks, volumes and the index: it cleans up, or starts the workload
/// again. For that one the lock stays held, so that nobody takes the workload for one that has ended.
int hand_over(const Options& options, bool again, int64_t started_ns) {
  if (options.cleanup_program == nullptr) return 0;
  ::close(kListenFd);
  if (again) {
    ::fcntl(kLockFd, F_SETFD, 0);
  } else {
    ::close(kLockFd);
  }
  char hull[] = "hull", internal[] = "internal", cleanup[] = "cleanup", restart[] = "restart";
  static char id[160];
  strncpy(id, options.id, sizeof id - 1);
  static Text<32> started;
  started.add_number(started_ns);
  static char number[32];
  memcpy(number, started.c_str(), started.size() + 1);
  char* const argv[] = {hull, internal, again ? restart : cleanup, id, again ? number : nullptr, nullptr};
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(options.cleanup_program, argv, environ);
  return 1;
}

int open_log(const Options& options) {
  LogTarget target;
  target.dir_fd = kWorkloadFd;
  target.name = options.log_name;
  target.format = options.log_format;
  target.max_size = options.log_max_size;
  target.max_files = options.log_max_files;
  target.compressor = options.log_compressor;
  target.journal = options.journal;
  target.waits = options.log_waits;
  target.buffer = options.log_buffer;
  if (options.log_extra != nullptr) {
    target.extra_fd = ::openat(kRunFd, options.log_extra, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (target.extra_fd < 0) return errno;
  }
  const int error = g_loop.log().open(target);
  if (target.extra_fd >= 0) ::close(target.extra_fd);
  return error;
}

}  // namespace

int run(const Options& options) {
  const unsigned first_unused = static_cast<unsigned>(kFirstUnusedFd + options.keep_fds);
  ::syscall(SYS_close_range, first_unused, ~0U, 0);
  ::syscall(SYS_close_range, kControlFd, first_unused - 1, CLOSE_RANGE_CLOEXEC);
  ::unsetenv("NOTIFY_SOCKET");  // of a unit that `hull` was started from: it is not the workload's
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
  const auto give_up = [&] { return send(kControlFd, failure) ? 1 : hand_over(options, false, 0); };
  if (::fchdir(kRunFd) != 0) return give_up();

  if (const int error = open_log(options); error != 0) {
    Text<sizeof failure.text> text;
    text.add("open the log ").add(options.journal != nullptr ? options.journal : options.log_name);
    text.add(options.journal != nullptr ? " (does systemd-journald run?): " : ": ");
    text.add(strerrordesc_np(error));
    memcpy(failure.text, text.c_str(), text.size() + 1);
    return give_up();
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
  Loop::End end = g_loop.serve();
  if (end == Loop::End::kRestart) end = g_loop.back_off();
  if (end == Loop::End::kCleaned) return 0;
  return hand_over(options, end == Loop::End::kRestart, g_loop.started_ns());
}

}  // namespace hull::engine::monitor
