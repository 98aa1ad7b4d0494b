#include "guest/child_command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "base/error_format.h"
#include "base/log.h"
#include "guest/ttrpc.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

constexpr int kReportFd = 3, kLogFd = 4, kFirstClosed = 5;
constexpr int kAbove = 16;   // copies on the way lie above the descriptors that they are put in place of
constexpr char kDone = '!';  // before the report, which may be empty
constexpr size_t kMaxReport = 8 << 20;

/// In the child: puts the descriptors in their places. False: nothing can be done.
bool arrange(const std::array<int, 3>& stdio, int log_fd, int report) {
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null_fd < 0) return false;
  const std::array<int, 5> wanted = {stdio[0], stdio[1], stdio[2], report, log_fd};
  std::array<int, 5> copies{};
  for (size_t i = 0; i < wanted.size(); ++i) {
    copies[i] = ::fcntl(wanted[i] < 0 ? null_fd : wanted[i], F_DUPFD_CLOEXEC, kAbove);
    if (copies[i] < 0) return false;
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int target = static_cast<int>(i);
    if (::dup3(copies[i], target, target < kReportFd ? 0 : O_CLOEXEC) < 0 && errno != EINVAL) return false;
  }
  return ::syscall(SYS_close_range, kFirstClosed, ~0U, 0) == 0;
}

void reset_signals() {
  ::signal(SIGPIPE, SIG_DFL);  // the only one that the loop ignores
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void be_child(const CommandOptions& options, int report, const CommandBody& body) {
  reset_signals();
  if (!arrange(options.stdio, options.log_fd, report)) ::_exit(1);
  set_log(LogLevel::kWarning, LogFormat::kText, kLogFd);
  ignore_result(sys::write_all(kReportFd, kDone + ttrpc::encode_response(body())));
  ::_exit(0);
}

Result<std::string> read_report(int fd) {
  if (::lseek(fd, 0, SEEK_SET) != 0) return errno_error("read the command's report");
  TRY_ASSIGN(const std::string text, sys::read_all(fd, kMaxReport));
  if (text.empty()) return errorf(ErrorKind::kTimeout, "the command was ended before it was done");
  return ttrpc::decode_response(std::string_view(text).substr(1));
}

}  // namespace

Result<pid_t> run_command(EventLoop& loop, const CommandOptions& options, const CommandBody& body, CommandDone done) {
  // Not a pipe: what the command has started may hold the other end, and an answer may be long.
  auto report = std::make_shared<UniqueFd>(::memfd_create("report", MFD_CLOEXEC));
  if (!*report) return errno_error("make a report");
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("fork");
  if (pid == 0) be_child(options, report->get(), body);
  loop.keep_strays(true);
  uint64_t timer = 0;
  if (options.kill_after) {
    timer = loop.at(EventLoop::Clock::now() + *options.kill_after, [pid] { ::kill(pid, SIGKILL); });
  }
  loop.on_exit(pid, [&loop, report, timer, done = std::move(done)](int) {
    loop.cancel(timer);
    done(read_report(report->get()));
    loop.keep_strays(false);
  });
  return pid;
}

}  // namespace hull::guest
