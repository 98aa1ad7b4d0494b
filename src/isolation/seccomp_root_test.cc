// The programs in the real kernel.

#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolation/capabilities.h"
#include "isolation/seccomp.h"

namespace hull::isolation {
namespace {

/// Installs the filter in a child and returns what `check` answers there.
template <typename F>
int under(SeccompFilter& filter, F&& check) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sock_fprog program = filter.fprog();
    const long fd = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter.flags, &program);
    if (fd < 0) ::_exit(100);
    ::_exit(check(static_cast<int>(fd)));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

TEST(SeccompInKernel, TheDefaultProfileHolds) {
  Result<SeccompFilter> filter = compile_seccomp(default_seccomp(kDefaultCapabilities));
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(under(*filter,
                  [](int) {
                    if (::mount("none", "/", nullptr, MS_PRIVATE, nullptr) != -1 || errno != EPERM) return 1;
                    if (::syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS) return 2;
                    if (::syscall(999) != -1 || errno != ENOSYS) return 3;
                    if (::socket(AF_VSOCK, SOCK_STREAM, 0) != -1 || errno != EPERM) return 4;
                    if (::getpid() <= 0) return 5;
                    const pid_t child = ::fork();
                    if (child == 0) ::_exit(7);
                    int status = 0;
                    if (::waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) return 6;
                    return 0;
                  }),
            0);
}

TEST(SeccompInKernel, NotifyGivesAListener) {
  oci::Seccomp wanted;
  wanted.default_action = "SCMP_ACT_ALLOW";
  wanted.flags = {"SECCOMP_FILTER_FLAG_LOG"};
  wanted.syscalls = {{.names = {"acct"}, .action = "SCMP_ACT_NOTIFY", .errno_ret = {}, .args = {}}};
  Result<SeccompFilter> filter = compile_seccomp(wanted);
  ASSERT_TRUE(filter.ok()) << filter.error().message();
  EXPECT_EQ(under(*filter, [](int fd) { return fd > 2 ? 0 : 1; }), 0);
}

TEST(SeccompInKernel, KnownFlagsThatTheKernelTakes) {
  const std::vector<std::string> flags = seccomp_supported_flags();
  EXPECT_FALSE(flags.empty());
  oci::Seccomp wanted;
  wanted.default_action = "SCMP_ACT_ALLOW";
  wanted.flags = flags;
  std::erase(wanted.flags, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");  // needs a listener
  wanted.syscalls = {{.names = {"acct"}, .action = "SCMP_ACT_ERRNO", .errno_ret = {}, .args = {}}};
  Result<SeccompFilter> filter = compile_seccomp(wanted);
  ASSERT_TRUE(filter.ok()) << filter.error().message();
  EXPECT_EQ(under(*filter, [](int) { return 0; }), 0);
}

}  // namespace
}  // namespace hull::isolation
