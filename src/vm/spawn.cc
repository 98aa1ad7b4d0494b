#include "vm/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::vm {
namespace {

/// What the child needs: plain values, prepared before the clone.
struct ChildPlan {
  char* const* argv;
  const int* keep;
  size_t keep_count;
  int null_fd, stdout_fd, stderr_fd, report_fd;
  pid_t parent;
  bool die_with_parent;
};

/// Only system calls from here on; ends in the program or reports errno.
[[noreturn]] void child_main(const ChildPlan& plan) {
  const auto fail = [&] {
    const int number = errno;
    static_cast<void>(!::write(plan.report_fd, &number, sizeof number));
    ::_exit(127);
  };
  if (plan.die_with_parent) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail();
    if (::getppid() != plan.parent) ::_exit(127);  // it died before the line above
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::dup2(plan.null_fd, 0) < 0) fail();
  if (::dup2(plan.stdout_fd >= 0 ? plan.stdout_fd : plan.null_fd, 1) < 0) fail();
  if (::dup2(plan.stderr_fd >= 0 ? plan.stderr_fd : plan.null_fd, 2) < 0) fail();
  for (size_t i = 0; i < plan.keep_count; ++i) {
    if (::fcntl(plan.keep[i], F_SETFD, 0) != 0) fail();
  }
  ::execv(plan.argv[0], plan.argv);
  fail();
  ::_exit(127);
}

/// A descriptor of 3 or more: 0 to 2 are overwritten in the child.
Result<UniqueFd> above_stdio(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return errnof("duplicate a descriptor");
  return copy;
}

}  // namespace

Result<Process> start_process(const ProcessRequest& request) {
  std::vector<std::string> words = request.argv;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  TRY_ASSIGN(const UniqueFd null, sys::open("/dev/null", O_RDWR));
  TRY_ASSIGN(const UniqueFd null_fd, above_stdio(null.get()));
  UniqueFd out;
  UniqueFd err;
  if (request.stdout_fd >= 0) {
    TRY_ASSIGN(out, above_stdio(request.stdout_fd));
  }
  if (request.stderr_fd >= 0) {
    TRY_ASSIGN(err, above_stdio(request.stderr_fd));
  }
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  TRY_ASSIGN(const UniqueFd report, above_stdio(pipe.write_end.get()));
  pipe.write_end.reset();
  const ChildPlan plan = {
      argv.data(), request.keep_fds.data(), request.keep_fds.size(), null_fd.get(), out.get(), err.get(), report.get(),
      ::getpid(),  request.die_with_parent};
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return errnof("start {}", request.argv[0]);
  if (pid == 0) child_main(plan);
  Process process{static_cast<pid_t>(pid), UniqueFd(pidfd)};
  const_cast<UniqueFd&>(report).reset();
  int number = 0;
  ssize_t got = 0;
  while ((got = ::read(pipe.read_end.get(), &number, sizeof number)) < 0 && errno == EINTR) {
  }
  if (got == static_cast<ssize_t>(sizeof number)) {
    ignore_result(wait_process(process.pidfd.get()));
    return Error::from_errno(number, fmt::format("start {}", request.argv[0]));
  }
  return process;
}

Result<int> wait_process(int pidfd) {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED) != 0) {
    if (errno != EINTR) return errnof("wait for a process");
  }
  // As wait(2) tells it: the code's or the signal's place in the status.
  if (info.si_code == CLD_EXITED) return (info.si_status & 0xFF) << 8;
  return info.si_status & 0x7F;
}

Result<std::string> run_program(const std::vector<std::string>& argv) {
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  ProcessRequest request;
  request.argv = argv;
  request.stdout_fd = request.stderr_fd = pipe.write_end.get();
  TRY_ASSIGN(const Process process, start_process(request));
  pipe.write_end.reset();
  const auto said = sys::read_all(pipe.read_end.get(), 64 << 10);
  pipe.read_end.reset();
  TRY_ASSIGN(const int status, wait_process(process.pidfd.get()));
  std::string text = said.ok() ? *said : std::string();
  while (text.ends_with('\n')) text.pop_back();
  if (status == 0) return text;
  return errorf(ErrorKind::kIo, "{} ended with {}: {}", argv[0], sys::exit_code(status), text);
}

}  // namespace hull::vm
