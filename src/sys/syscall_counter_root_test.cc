#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/syscall_counter.h"

namespace hull::sys {
namespace {

TEST(SyscallCounter, CountsWhatChildrenDoAndNotTheCaller) {
  auto counter = SyscallCounter::start();
  if (!counter.ok()) GTEST_SKIP() << counter.error().message();
  const auto before = counter->count();
  ASSERT_TRUE(before.ok());
  for (int i = 0; i < 1000; ++i) ::syscall(SYS_getppid);
  const uint64_t own = *counter->count() - *before;
  EXPECT_LT(own, 10U);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const pid_t inner = ::fork();
    for (int i = 0; i < 1000; ++i) ::syscall(SYS_getppid);
    if (inner > 0) ::waitpid(inner, nullptr, 0);
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
  const uint64_t children = *counter->count() - *before;
  EXPECT_GE(children, 2000U);
  EXPECT_LT(children, 2200U);
}

}  // namespace
}  // namespace hull::sys
