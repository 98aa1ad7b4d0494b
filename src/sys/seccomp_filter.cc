#include "sys/seccomp_filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace hull::sys {

namespace {
constexpr uint32_t kNumberOffset = offsetof(seccomp_data, nr);
constexpr uint32_t kArchOffset = offsetof(seccomp_data, arch);

sock_filter load(uint32_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset); }
sock_filter answer(uint32_t value) { return BPF_STMT(BPF_RET | BPF_K, value); }
sock_filter jump(uint16_t test, uint32_t value, uint8_t when_true, uint8_t when_false) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | BPF_K | test), value, when_true, when_false);
}
uint32_t low_half(unsigned argument) {
  return static_cast<uint32_t>(offsetof(seccomp_data, args) + argument * sizeof(uint64_t));  // little endian
}

/// What follows the test of the number: ends in an answer on every path.
std::vector<sock_filter> body(const SyscallRule& rule) {
  const uint32_t good = rule.error != 0 ? SECCOMP_RET_ERRNO | static_cast<uint32_t>(rule.error) : SECCOMP_RET_ALLOW;
  std::vector<sock_filter> out;
  switch (rule.when) {
    case SyscallRule::When::kAlways:
      out.push_back(answer(good));
      break;
    case SyscallRule::When::kArgumentIs:
      out.push_back(load(low_half(rule.argument)));
      for (const uint32_t value : rule.values) {
        out.push_back(jump(BPF_JEQ, value, 0, 1));
        out.push_back(answer(good));
      }
      out.push_back(answer(SECCOMP_RET_KILL_PROCESS));
      break;
    case SyscallRule::When::kArgumentHasNone:
      out.push_back(load(low_half(rule.argument)));
      out.push_back(jump(BPF_JSET, rule.values.at(0), 0, 1));
      out.push_back(answer(SECCOMP_RET_KILL_PROCESS));
      out.push_back(answer(good));
      break;
  }
  return out;
}
}  // namespace

std::vector<sock_filter> assemble_filter(std::span<const SyscallRule> rules) {
  std::vector<sock_filter> program{load(kArchOffset), jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
                                   answer(SECCOMP_RET_KILL_PROCESS), load(kNumberOffset)};
  for (const SyscallRule& rule : rules) {
    const std::vector<sock_filter> checks = body(rule);
    // At most 64 values of two instructions: the distance fits into its 8 bits.
    program.push_back(jump(BPF_JEQ, static_cast<uint32_t>(rule.number), 0, static_cast<uint8_t>(checks.size())));
    program.insert(program.end(), checks.begin(), checks.end());
  }
  program.push_back(answer(SECCOMP_RET_KILL_PROCESS));
  return program;
}

Result<void> install_filter(std::span<const sock_filter> program) {
  std::vector<sock_filter> copy(program.begin(), program.end());
  const sock_fprog filter{static_cast<unsigned short>(copy.size()), copy.data()};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
    return errno_error("install a system-call filter");
  return {};
}

}  // namespace hull::sys
