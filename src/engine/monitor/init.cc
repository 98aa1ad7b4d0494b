#include "engine/monitor/init.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

void complain(const char* program, int error) {
  Text<600> text;
  text.add("init: execute ").add(program).add(": ").add(strerrordesc_np(error)).add("\n");
  [[maybe_unused]] const ssize_t put = ::write(2, text.c_str(), text.size());
}

}  // namespace

int run_init(int argc, char** argv) {
  int first = 1;
  if (first < argc && strcmp(argv[first], "--") == 0) ++first;
  if (first >= argc) {
    complain("(no program)", EINVAL);
    return 127;
  }
  sigset_t all, before;
  sigfillset(&all);
  // Faults of our own must not be blocked: they would loop.
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  // Job-control signals from a terminal in the background would stop PID 1.
  struct sigaction ignored = {};
  ignored.sa_handler = SIG_IGN;
  struct sigaction old_ttin, old_ttou;
  ::sigaction(SIGTTIN, &ignored, &old_ttin);
  ::sigaction(SIGTTOU, &ignored, &old_ttou);
  const pid_t child = ::fork();
  if (child < 0) {
    complain("fork", errno);
    return 126;
  }
  if (child == 0) {
    ::setpgid(0, 0);
    ::tcsetpgrp(0, ::getpid());  // only succeeds with a terminal
    ::sigaction(SIGTTIN, &old_ttin, nullptr);
    ::sigaction(SIGTTOU, &old_ttou, nullptr);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    ::execvpe(argv[first], argv + first, environ);
    const int error = errno;
    complain(argv[first], error);
    ::_exit(error == ENOENT || error == ENOTDIR ? 127 : 126);
  }
  for (;;) {
    siginfo_t info = {};
    const int signal = ::sigwaitinfo(&all, &info);
    if (signal < 0) continue;
    if (signal != SIGCHLD) {
      ::kill(child, signal);
      continue;
    }
    int status = 0;
    pid_t pid = -1;
    while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
      if (pid != child) continue;
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
  }
}

}  // namespace hull::engine::monitor
