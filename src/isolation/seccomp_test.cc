#include "isolation/seccomp.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "isolation/capabilities.h"
#include "isolation/seccomp_interpreter.h"
#include "sys/file.h"

namespace hull::isolation {
namespace {

using testing::Contains;
using testing::HasSubstr;

uint32_t verdict(const SeccompFilter& filter, int number, std::initializer_list<uint64_t> args = {},
                 uint32_t arch = AUDIT_ARCH_X86_64) {
  seccomp_data data = {};
  data.nr = number;
  data.arch = arch;
  std::copy(args.begin(), args.end(), data.args);
  return run_seccomp(filter.program, data);
}

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
uint32_t error(int number) { return SECCOMP_RET_ERRNO | static_cast<uint32_t>(number); }

oci::Seccomp profile(const char* default_action) {
  oci::Seccomp out;
  out.default_action = default_action;
  return out;
}

oci::SeccompRule rule(std::vector<std::string> names, const char* action) {
  return {.names = std::move(names), .action = action, .errno_ret = {}, .args = {}};
}

#if defined(__x86_64__)

TEST(Seccomp, DefaultProfileAllowsAndRefusesWhatDockersDoes) {
  Result<SeccompFilter> filter = compile_seccomp(default_seccomp(kDefaultCapabilities));
  ASSERT_TRUE(filter.ok()) << filter.error().message();
  EXPECT_EQ(filter->flags, 0U);
  EXPECT_FALSE(filter->needs_listener);
  EXPECT_EQ(verdict(*filter, SYS_read), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_openat2), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_mount), error(EPERM));
  EXPECT_EQ(verdict(*filter, SYS_unshare), error(EPERM));
  EXPECT_EQ(verdict(*filter, SYS_bpf), error(EPERM));
  EXPECT_EQ(verdict(*filter, SYS_clone3), error(ENOSYS));
  EXPECT_EQ(verdict(*filter, SYS_clone, {0x1200011}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_clone, {0x10000000}), error(EPERM)) << "a user namespace";
  EXPECT_EQ(verdict(*filter, SYS_socket, {2}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_socket, {40}), error(EPERM)) << "AF_VSOCK";
  EXPECT_EQ(verdict(*filter, SYS_socket, {38}), error(EPERM)) << "AF_ALG";
  EXPECT_EQ(verdict(*filter, SYS_personality, {0}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_personality, {0x0040000}), error(EPERM)) << "ADDR_NO_RANDOMIZE";
  EXPECT_EQ(verdict(*filter, SYS_ptrace), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_arch_prctl), kAllow);
  EXPECT_EQ(verdict(*filter, 3, {}, AUDIT_ARCH_I386), kAllow) << "i386 read";
  EXPECT_EQ(verdict(*filter, 21, {}, AUDIT_ARCH_I386), error(EPERM)) << "i386 mount";
}

TEST(Seccomp, SyscallsNewerThanLibseccompAreKnown) {
  Result<SeccompFilter> filter = compile_seccomp(default_seccomp(kDefaultCapabilities));
  ASSERT_TRUE(filter.ok());
  constexpr int kMseal = 462;
  constexpr int kSetxattrat = 463;
  constexpr int kX32 = 0x40000000;
  EXPECT_EQ(verdict(*filter, kMseal), kAllow);
  EXPECT_EQ(verdict(*filter, kSetxattrat), kAllow);
  EXPECT_EQ(verdict(*filter, kMseal, {}, AUDIT_ARCH_I386), kAllow);
  EXPECT_EQ(verdict(*filter, kX32 + kMseal), kAllow);
}

TEST(Seccomp, SyscallsNewerThanTheProfileAnswerEnosys) {
  Result<SeccompFilter> filter = compile_seccomp(default_seccomp(kDefaultCapabilities));
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(verdict(*filter, 500), error(ENOSYS));
  EXPECT_EQ(verdict(*filter, 500, {}, AUDIT_ARCH_I386), error(ENOSYS));
  EXPECT_EQ(verdict(*filter, 0x40000000 + 900), error(ENOSYS));

  oci::Seccomp old = profile("SCMP_ACT_ERRNO");
  old.syscalls = {rule({"read", "openat2"}, "SCMP_ACT_ALLOW")};
  filter = compile_seccomp(old);
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(verdict(*filter, SYS_openat2), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_openat2 + 1), error(ENOSYS));
  EXPECT_EQ(verdict(*filter, SYS_mount), error(EPERM)) << "older than the newest that is named";

  oci::Seccomp open = profile("SCMP_ACT_ALLOW");
  open.syscalls = {rule({"mount"}, "SCMP_ACT_KILL_PROCESS")};
  filter = compile_seccomp(open);
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(verdict(*filter, 5000), kAllow) << "a permissive profile stays so";
  EXPECT_EQ(verdict(*filter, SYS_mount), SECCOMP_RET_KILL_PROCESS);
}

TEST(Seccomp, CapabilitiesOpenMore) {
  Result<SeccompFilter> filter = compile_seccomp(default_seccomp(~0ULL));
  ASSERT_TRUE(filter.ok()) << filter.error().message();
  EXPECT_EQ(verdict(*filter, SYS_mount), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_clone3), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_clone, {0x10000000}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_reboot), kAllow);
  constexpr int kLsmListModules = 461;
  EXPECT_EQ(verdict(*filter, kLsmListModules), kAllow);
  filter = compile_seccomp(default_seccomp(0));
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(verdict(*filter, SYS_chroot), error(EPERM));
  EXPECT_EQ(verdict(*filter, kLsmListModules), error(EPERM));
}

TEST(Seccomp, ArgumentsErrnosAndActions) {
  oci::Seccomp wanted = profile("SCMP_ACT_ALLOW");
  oci::SeccompRule low = rule({"ioctl"}, "SCMP_ACT_ERRNO");
  low.errno_ret = ENOTTY;
  low.args = {{.index = 1, .value = 0xffff, .value_two = 0x5412, .op = "SCMP_CMP_MASKED_EQ"}};
  oci::SeccompRule both = rule({"lseek"}, "SCMP_ACT_ERRNO");
  both.args = {{.index = 0, .value = 3, .op = "SCMP_CMP_EQ"}, {.index = 2, .value = 7, .op = "SCMP_CMP_GE"}};
  oci::SeccompRule either = rule({"dup3"}, "SCMP_ACT_TRAP");
  either.args = {{.index = 0, .value = 5, .op = "SCMP_CMP_EQ"}, {.index = 0, .value = 9, .op = "SCMP_CMP_EQ"}};
  wanted.syscalls = {low,
                     both,
                     either,
                     rule({"getppid"}, "SCMP_ACT_LOG"),
                     rule({"nonsense_call"}, "SCMP_ACT_KILL"),
                     rule({"getpid", "getpid"}, "SCMP_ACT_ALLOW")};
  Result<SeccompFilter> filter = compile_seccomp(wanted);
  ASSERT_TRUE(filter.ok()) << filter.error().message();
  EXPECT_EQ(verdict(*filter, SYS_ioctl, {0, 0x5412}), error(ENOTTY));
  EXPECT_EQ(verdict(*filter, SYS_ioctl, {0, 0x5413}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_lseek, {3, 0, 7}), error(EPERM));
  EXPECT_EQ(verdict(*filter, SYS_lseek, {3, 0, 6}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_dup3, {5}), SECCOMP_RET_TRAP);
  EXPECT_EQ(verdict(*filter, SYS_dup3, {9}), SECCOMP_RET_TRAP);
  EXPECT_EQ(verdict(*filter, SYS_dup3, {6}), kAllow);
  EXPECT_EQ(verdict(*filter, SYS_getppid), SECCOMP_RET_LOG);
}

#endif

TEST(Seccomp, RefusesWhatItDoesNotUnderstand) {
  const auto message = [](const oci::Seccomp& wanted) {
    Result<SeccompFilter> filter = compile_seccomp(wanted);
    return filter.ok() ? std::string("accepted") : filter.error().message();
  };
  EXPECT_THAT(message(profile("SCMP_ACT_MAYBE")), HasSubstr("linux.seccomp.defaultAction"));
  EXPECT_THAT(message(profile("SCMP_ACT_NOTIFY")), HasSubstr("defaultAction"));
  oci::Seccomp wanted = profile("SCMP_ACT_ALLOW");
  wanted.flags = {"SECCOMP_FILTER_FLAG_FASTER"};
  EXPECT_THAT(message(wanted), HasSubstr("linux.seccomp.flags"));
  wanted = profile("SCMP_ACT_ALLOW");
  wanted.architectures = {"SCMP_ARCH_Z80"};
  EXPECT_THAT(message(wanted), HasSubstr("linux.seccomp.architectures"));
  wanted = profile("SCMP_ACT_ALLOW");
  wanted.syscalls = {rule({"read"}, "SCMP_ACT_ERRNO")};
  wanted.syscalls[0].errno_ret = 5000;
  EXPECT_THAT(message(wanted), HasSubstr("errnoRet"));
  wanted.syscalls[0].errno_ret = 1;
  wanted.syscalls[0].action = "SCMP_ACT_TRAP";
  EXPECT_THAT(message(wanted), HasSubstr("errnoRet"));
  wanted.syscalls[0].errno_ret = {};
  wanted.syscalls[0].args = {{.index = 6, .value = 0, .op = "SCMP_CMP_EQ"}};
  EXPECT_THAT(message(wanted), HasSubstr("argument 6"));
  wanted.syscalls[0].args = {{.index = 0, .value = 0, .op = "=="}};
  EXPECT_THAT(message(wanted), HasSubstr("operator"));
  wanted.syscalls = {rule({"write"}, "SCMP_ACT_NOTIFY")};
  EXPECT_THAT(message(wanted), HasSubstr("write"));
  wanted.syscalls.clear();
  wanted.listener_path = "/run/agent.sock";
  EXPECT_THAT(message(wanted), HasSubstr("listenerPath"));
}

TEST(Seccomp, NotifyNeedsAListener) {
  oci::Seccomp wanted = profile("SCMP_ACT_ALLOW");
  wanted.syscalls = {rule({"mkdirat"}, "SCMP_ACT_NOTIFY")};
  Result<SeccompFilter> filter = compile_seccomp(wanted);
  ASSERT_TRUE(filter.ok()) << filter.error().message();
  EXPECT_TRUE(filter->needs_listener);
  EXPECT_EQ(filter->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

class SeccompCache : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hull-seccomp-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    dir_ = top_ + "/cache";
  }
  void TearDown() override { ignore_result(sys::remove_tree(top_)); }
  std::string only_file() const {
    for (const auto& entry : std::filesystem::directory_iterator(dir_)) return entry.path().string();
    return {};
  }
  static bool same(const SeccompFilter& a, const SeccompFilter& b) {
    return a.flags == b.flags && a.needs_listener == b.needs_listener && a.program.size() == b.program.size() &&
           std::memcmp(a.program.data(), b.program.data(), a.program.size() * sizeof(sock_filter)) == 0;
  }
  std::string top_, dir_;
};

TEST_F(SeccompCache, KeepsAndVerifies) {
  const oci::Seccomp wanted = default_seccomp(kDefaultCapabilities);
  Result<SeccompFilter> first = load_seccomp(wanted, dir_);
  ASSERT_TRUE(first.ok());
  struct stat info = {};
  ASSERT_EQ(::stat(dir_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  const std::string file = only_file();
  ASSERT_FALSE(file.empty());
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  const ino_t inode = info.st_ino;

  Result<SeccompFilter> second = load_seccomp(wanted, dir_);
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(same(*first, *second));
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_ino, inode) << "a hit writes nothing";

  // Every kind of damage makes a miss, and the file is made anew.
  Result<std::string> good = sys::read_file(file);
  ASSERT_TRUE(good.ok());
  for (const size_t at : {size_t{0}, size_t{9}, size_t{20}, size_t{60}, good->size() - 3}) {
    std::string bad = *good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    ASSERT_TRUE(sys::replace_file(file, bad, 0600, false).ok());
    Result<SeccompFilter> again = load_seccomp(wanted, dir_);
    ASSERT_TRUE(again.ok());
    EXPECT_TRUE(same(*first, *again)) << at;
    EXPECT_TRUE(*sys::read_file(file) == *good) << at;
  }
  ASSERT_TRUE(sys::replace_file(file, good->substr(0, good->size() / 2), 0600, false).ok());
  EXPECT_TRUE(same(*first, *load_seccomp(wanted, dir_)));
  ASSERT_EQ(::chmod(file.c_str(), 0644), 0);
  EXPECT_TRUE(same(*first, *load_seccomp(wanted, dir_)));
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U) << "what others could read is replaced";
}

TEST_F(SeccompCache, OtherSectionsAreOtherFiles) {
  oci::Seccomp one = profile("SCMP_ACT_ALLOW");
  one.syscalls = {rule({"mkdir"}, "SCMP_ACT_ERRNO")};
  oci::Seccomp two = one;
  two.syscalls[0].errno_ret = 2;
  ASSERT_TRUE(load_seccomp(one, dir_).ok());
  ASSERT_TRUE(load_seccomp(two, dir_).ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), std::filesystem::directory_iterator()), 2);
}

TEST_F(SeccompCache, AFolderThatOthersCanWriteIsNotUsed) {
  ASSERT_EQ(::mkdir(dir_.c_str(), 0777), 0);
  ASSERT_EQ(::chmod(dir_.c_str(), 0777), 0);
  ASSERT_TRUE(load_seccomp(default_seccomp(0), dir_).ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST_F(SeccompCache, AHitIsQuick) {
  const oci::Seccomp wanted = default_seccomp(kDefaultCapabilities);
  ASSERT_TRUE(load_seccomp(wanted, dir_).ok());
  auto best = std::chrono::nanoseconds::max();
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(load_seccomp(wanted, dir_).ok());
    best = std::min(best, std::chrono::nanoseconds(std::chrono::steady_clock::now() - start));
  }
  RecordProperty("best_us", static_cast<int>(best.count() / 1000));
  // 100 µs in a release build; room for debug builds and busy machines.
  EXPECT_LT(best, std::chrono::milliseconds(2));
}

}  // namespace
}  // namespace hull::isolation
