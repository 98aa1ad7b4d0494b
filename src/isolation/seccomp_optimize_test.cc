#include "isolation/seccomp_optimize.h"

#include <gtest/gtest.h>
#include <linux/audit.h>

#include <array>
#include <random>

#include "isolation/capabilities.h"
#include "isolation/seccomp_compile.h"
#include "isolation/seccomp_interpreter.h"

namespace hull::isolation {
namespace {

/// Both programs, over every number that matters and arguments around the constants that profiles use.
void expect_equal(const std::vector<sock_filter>& plain, const std::vector<sock_filter>& small) {
  constexpr std::array<uint32_t, 5> kArchs = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM,
                                              0};
  constexpr std::array<uint64_t, 14> kArguments = {0,  1,  7,      8,          9,          38,         39,
                                                   40, 41, 0x5412, 0x20008ULL, 0xffffffff, 0x7e020000, ~0ULL};
  std::mt19937_64 random(3);
  for (const uint32_t arch : kArchs) {
    for (const uint32_t base : {0U, 0x40000000U, 0x80000000U, 0xfffffc00U}) {
      for (uint32_t number = base; number < base + 560 && number >= base; ++number) {
        for (int round = 0; round < 4; ++round) {
          seccomp_data data = {};
          data.nr = static_cast<int>(number);
          data.arch = arch;
          for (auto& argument : data.args) argument = kArguments[random() % kArguments.size()];
          if (round == 3) data.args[0] = random();
          ASSERT_EQ(run_seccomp(plain, data), run_seccomp(small, data)) << arch << " " << number;
        }
      }
    }
  }
}

void check(const oci::Seccomp& profile) {
  Result<SeccompFilter> plain = seccomp_compile::compile_plain(profile);
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  expect_equal(plain->program, optimize_seccomp(plain->program));
}

TEST(SeccompOptimize, DefaultProfilesAnswerTheSame) {
  check(default_seccomp(kDefaultCapabilities));
  check(default_seccomp(0));
  check(default_seccomp(~0ULL));
}

TEST(SeccompOptimize, TheDefaultProfileBecomesMuchSmaller) {
  Result<SeccompFilter> plain = seccomp_compile::compile_plain(default_seccomp(kDefaultCapabilities));
  ASSERT_TRUE(plain.ok());
  const size_t small = optimize_seccomp(plain->program).size();
  RecordProperty("plain", static_cast<int>(plain->program.size()));
  RecordProperty("small", static_cast<int>(small));
  EXPECT_LT(small * 2, plain->program.size()) << small;
}

TEST(SeccompOptimize, RandomProfilesAnswerTheSame) {
  std::mt19937 random(11);
  constexpr std::array<const char*, 24> kNames = {
      "read",       "write",  "open", "close",  "clone",     "clone3",    "socket", "mount",
      "ioctl",      "lseek",  "bpf",  "mseal",  "statmount", "openat2",   "getpid", "personality",
      "futex_wait", "ptrace", "fork", "execve", "umount2",   "futimesat", "time",   "arch_prctl"};
  constexpr std::array<const char*, 6> kActions = {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS",
                                                   "SCMP_ACT_TRAP",  "SCMP_ACT_LOG",   "SCMP_ACT_TRACE"};
  constexpr std::array<const char*, 7> kOperators = {"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE",       "SCMP_CMP_EQ",
                                                     "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};
  int compiled = 0;
  for (int round = 0; round < 60; ++round) {
    oci::Seccomp profile;
    profile.default_action = kActions[random() % kActions.size()];
    profile.architectures = {"SCMP_ARCH_X86_64"};
    if (random() % 2 == 0) profile.architectures.push_back("SCMP_ARCH_X86");
    if (random() % 2 == 0) profile.architectures.push_back("SCMP_ARCH_X32");
    std::vector<const char*> names(kNames.begin(), kNames.end());
    std::shuffle(names.begin(), names.end(), random);
    for (size_t i = random() % 20; i > 0; --i) {
      oci::SeccompRule rule;
      rule.names = {names[i]};
      rule.action = kActions[random() % kActions.size()];
      for (size_t conditions = random() % 4; conditions > 1; --conditions) {
        rule.args.push_back({.index = static_cast<uint32_t>(random() % 3),
                             .value = random() % 4 == 0 ? 0xffffffffULL : random() % 42,
                             .value_two = random() % 8,
                             .op = kOperators[random() % kOperators.size()]});
      }
      profile.syscalls.push_back(std::move(rule));
    }
    Result<SeccompFilter> plain = seccomp_compile::compile_plain(profile);
    if (!plain.ok()) continue;  // rules that contradict each other
    ++compiled;
    expect_equal(plain->program, optimize_seccomp(plain->program));
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(compiled, 20);
}

TEST(SeccompOptimize, LeavesAloneWhatItDoesNotFollow) {
  const std::vector<sock_filter> odd = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 5),
                                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1),
                                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
  const std::vector<sock_filter> same = optimize_seccomp(odd);
  ASSERT_EQ(same.size(), odd.size());
  EXPECT_EQ(std::memcmp(same.data(), odd.data(), odd.size() * sizeof(sock_filter)), 0);
  const std::vector<sock_filter> endless = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
  EXPECT_EQ(optimize_seccomp(endless).size(), 1U) << "runs off its end";
  EXPECT_TRUE(optimize_seccomp({}).empty());
}

}  // namespace
}  // namespace hull::isolation
