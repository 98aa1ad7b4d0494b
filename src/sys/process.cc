#include "sys/process.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error_format.h"

namespace hull::sys {

Result<UniqueFd> pidfd_open(pid_t pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return errnof("open process {}", pid);
  return fd;
}

Result<void> pidfd_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) != 0) return errnof("send signal {}", signal);
  return {};
}

std::optional<ProcessStat> process_stat(pid_t pid) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  char text[1024];
  const ssize_t got = ::read(fd.get(), text, sizeof text - 1);
  if (got <= 0) return std::nullopt;
  text[got] = '\0';
  // The command name may hold spaces and parentheses: fields are counted from the last ')'.
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] != ' ') return std::nullopt;
  ProcessStat stat;
  at += 2;
  stat.state = *at;
  constexpr int kFlagsField = 9;
  constexpr unsigned long kKernelThread = 0x00200000;  // PF_KTHREAD of include/linux/sched.h
  for (int field = 3; field < 22; ++field) {
    if (field == kFlagsField) stat.kernel_thread = (std::strtoul(at, nullptr, 10) & kKernelThread) != 0;
    at = std::strchr(at, ' ');
    if (at == nullptr) return std::nullopt;
    ++at;
  }
  stat.start_time = std::strtoull(at, nullptr, 10);
  return stat;
}

bool is_alive(pid_t pid, uint64_t start_time) {
  if (pid <= 0) return false;
  const auto stat = process_stat(pid);
  return stat && stat->state != 'Z' && stat->state != 'X' && stat->start_time == start_time;
}

int exit_code(int wait_status) {
  if (WIFEXITED(wait_status)) return WEXITSTATUS(wait_status);
  if (WIFSIGNALED(wait_status)) return 128 + WTERMSIG(wait_status);
  return 255;
}

}  // namespace hull::sys
