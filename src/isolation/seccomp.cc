// linux.seccomp through libseccomp, with a few instructions of Hull's own in front.

#include "isolation/seccomp.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "base/unique_fd.h"
#include "isolation/seccomp_compile.h"
#include "isolation/seccomp_optimize.h"
#include "sys/file.h"

// linux/seccomp.h of Debian 12 has it from Linux 5.19 on; older build hosts do not.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace hull::isolation {

namespace {

using seccomp_compile::syscall_number;

struct NamedValue {
  std::string_view name;
  uint32_t value;
};

constexpr NamedValue kActions[] = {
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
};

constexpr NamedValue kOperators[] = {
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
};

struct Architecture {
  std::string_view name;
  uint32_t scmp;
  uint32_t audit;
};
// libseccomp 2.5.4 has no LoongArch; the name is known, so that it can be told from a spelling mistake.
constexpr Architecture kArchitectures[] = {
    {"SCMP_ARCH_X86", SCMP_ARCH_X86, AUDIT_ARCH_I386},
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32, AUDIT_ARCH_X86_64},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM, AUDIT_ARCH_ARM},
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64},
    {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS, AUDIT_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64, AUDIT_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32, AUDIT_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL, AUDIT_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64, AUDIT_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32, AUDIT_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", SCMP_ARCH_PPC, AUDIT_ARCH_PPC},
    {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64, AUDIT_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE, AUDIT_ARCH_PPC64LE},
    {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64, AUDIT_ARCH_RISCV64},
    {"SCMP_ARCH_S390", SCMP_ARCH_S390, AUDIT_ARCH_S390},
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X, AUDIT_ARCH_S390X},
    {"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC, AUDIT_ARCH_PARISC},
    {"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64, AUDIT_ARCH_PARISC64},
};
constexpr std::string_view kLoongArch = "SCMP_ARCH_LOONGARCH64";

// TSYNC has no bit here: the filter is installed by a process of one thread, so there is nothing to synchronise, and
// the flag would clash with a listener.
constexpr NamedValue kFlags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", 0},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
};

template <typename Entry, size_t N>
const Entry* find(const Entry (&table)[N], std::string_view name) {
  for (const Entry& entry : table) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

template <typename Entry, size_t N>
std::vector<std::string> names_of(const Entry (&table)[N]) {
  std::vector<std::string> names;
  for (const Entry& entry : table) names.emplace_back(entry.name);
  std::sort(names.begin(), names.end());
  return names;
}

constexpr uint32_t kActionMask = 0xffff0000U;

Result<uint32_t> action_of(const std::string& name, const std::optional<uint32_t>& errno_ret, std::string_view member) {
  const NamedValue* action = find(kActions, name);
  if (action == nullptr) {
    return errorf(ErrorKind::kInvalid, "linux.seccomp.{}: \"{}\" is not one of {}", member, name.substr(0, 60),
                  fmt::join(names_of(kActions), ", "));
  }
  const bool takes_errno = action->value == SCMP_ACT_ERRNO(0) || action->value == SCMP_ACT_TRACE(0);
  if (!takes_errno) {
    // config-linux.md: an errno with an action that has none must be refused. 0 says nothing and is let pass.
    if (errno_ret && *errno_ret != 0) {
      return errorf(ErrorKind::kInvalid, "linux.seccomp.{}: {} takes no errnoRet", member, name);
    }
    return action->value;
  }
  const uint32_t number = errno_ret.value_or(EPERM);
  constexpr uint32_t kMaxErrno = 4095;
  if (number > kMaxErrno) {
    return errorf(ErrorKind::kInvalid, "linux.seccomp.{}: errnoRet {} is above {}", member, number, kMaxErrno);
  }
  return action->value | number;
}

struct ReleaseFilter {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

Error seccomp_error(int code, std::string_view what) {
  const int error = code < 0 ? -code : EINVAL;
  if (error == EOPNOTSUPP || error == EACCES) {
    return errorf(ErrorKind::kUnsupported, "linux.seccomp: {}: this kernel or libseccomp does not have it", what);
  }
  return Error::from_errno(error, fmt::format("linux.seccomp: {}", what));
}

/// One rule as libseccomp takes it.
Result<void> add_rule(void* filter, const std::string& name, uint32_t action, const std::vector<scmp_arg_cmp>& args) {
  const int number = ::seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR) return {};
  const int code = ::seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(args.size()),
                                            args.empty() ? nullptr : args.data());
  if (code == 0) return {};
  if (code == -EEXIST) {
    return errorf(ErrorKind::kInvalid, "linux.seccomp.syscalls: two rules for {} contradict each other", name);
  }
  return seccomp_error(code, fmt::format("a rule for {}", name));
}

Result<std::vector<scmp_arg_cmp>> conditions(const oci::SeccompRule& rule, bool& doubled) {
  std::vector<scmp_arg_cmp> out;
  std::array<int, 6> count = {};
  for (const oci::SeccompArg& arg : rule.args) {
    const NamedValue* op = find(kOperators, arg.op);
    if (op == nullptr) {
      return errorf(ErrorKind::kInvalid, "linux.seccomp.syscalls: the operator \"{}\" is not one of {}",
                    arg.op.substr(0, 60), fmt::join(names_of(kOperators), ", "));
    }
    if (arg.index >= count.size()) {
      return errorf(ErrorKind::kInvalid, "linux.seccomp.syscalls: a system call has no argument {} (0 to 5)",
                    arg.index);
    }
    doubled = doubled || ++count[arg.index] > 1;
    scmp_arg_cmp compare = {};
    compare.arg = arg.index;
    compare.op = static_cast<scmp_compare>(op->value);
    compare.datum_a = arg.value;
    compare.datum_b = arg.value_two;
    out.push_back(compare);
  }
  return out;
}

Result<std::vector<sock_filter>> exported(void* filter) {
  const UniqueFd fd(::memfd_create("hull-seccomp", MFD_CLOEXEC));
  if (!fd) return errno_error("make a memory file for the seccomp program");
  const int code = ::seccomp_export_bpf(filter, fd.get());
  if (code != 0) return seccomp_error(code, "compile");
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return errno_error("read the seccomp program");
  TRY_ASSIGN(const std::string bytes, sys::read_all(fd.get(), 1 << 20));
  std::vector<sock_filter> program(bytes.size() / sizeof(sock_filter));
  std::memcpy(program.data(), bytes.data(), program.size() * sizeof(sock_filter));
  return program;
}

constexpr uint32_t kX32Bit = 0x40000000U;

/// What stands before libseccomp's program: rules for syscalls that libseccomp has no name for, and ENOSYS for those
/// that are newer than the profile.
class Prologue {
 public:
  struct NewRule {
    std::string name;
    uint32_t action;
  };
  Prologue(const std::vector<const Architecture*>& architectures, const std::vector<NewRule>& rules,
           const oci::Seccomp& seccomp, bool enosys)
      : rules_(rules), seccomp_(seccomp), enosys_(enosys) {
    std::vector<sock_filter> body;
    for (const Architecture* architecture : architectures) {
      // x32 shares x86_64's section.
      if (architecture->scmp == SCMP_ARCH_X32) continue;
      const std::vector<sock_filter> part = section(*architecture, architectures);
      if (part.empty()) continue;
      // jeq audit, next, over: "ja" carries any distance.
      body.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture->audit, 1, 0));
      body.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(part.size())));
      body.insert(body.end(), part.begin(), part.end());
    }
    if (body.empty()) return;
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
    code_.insert(code_.end(), body.begin(), body.end());
    // Each section that lets a call through jumps to libseccomp's program, which starts behind this.
    for (size_t at = 0; at < code_.size(); ++at) {
      if (code_[at].code == (BPF_JMP | BPF_JA) && code_[at].k == kToFilter) {
        code_[at].k = static_cast<uint32_t>(code_.size() - at - 1);
      }
    }
  }
  const std::vector<sock_filter>& code() const { return code_; }

 private:
  static constexpr uint32_t kToFilter = 0xffffffffU;

  /// Checks of one syscall numbering; every way through ends in a return or a jump to the filter.
  std::vector<sock_filter> numbering(uint32_t scmp_arch) const {
    std::vector<sock_filter> out;
    for (const NewRule& rule : rules_) {
      const std::optional<uint32_t> number = syscall_number(scmp_arch, rule.name);
      if (!number) continue;
      out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, *number, 0, 1));
      out.push_back(BPF_STMT(BPF_RET | BPF_K, rule.action));
    }
    if (enosys_) {
      std::optional<uint32_t> newest;
      for (const oci::SeccompRule& rule : seccomp_.syscalls) {
        for (const std::string& name : rule.names) {
          const std::optional<uint32_t> number = syscall_number(scmp_arch, name);
          if (number && (!newest || *number > *newest)) newest = number;
        }
      }
      if (scmp_arch == SCMP_ARCH_S390 || scmp_arch == SCMP_ARCH_S390X) {
        // Number 0 is what the kernel leaves of numbers that it doesn't know there.
        out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1));
        out.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
      }
      if (newest) {
        out.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, *newest, 0, 1));
        out.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
      }
    }
    if (!out.empty()) out.push_back(BPF_STMT(BPF_JMP | BPF_JA, kToFilter));
    return out;
  }

  std::vector<sock_filter> section(const Architecture& architecture,
                                   const std::vector<const Architecture*>& all) const {
    std::vector<sock_filter> own = numbering(architecture.scmp);
    if (own.empty()) return own;
    std::vector<sock_filter> out;
    out.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    if (architecture.scmp == SCMP_ARCH_X86_64) {
      const bool x32 =
          std::any_of(all.begin(), all.end(), [](const Architecture* a) { return a->scmp == SCMP_ARCH_X32; });
      std::vector<sock_filter> other = x32 ? numbering(SCMP_ARCH_X32) : std::vector<sock_filter>();
      if (other.empty()) other.push_back(BPF_STMT(BPF_JMP | BPF_JA, kToFilter));
      out.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, 0, 1));
      out.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(own.size())));
      out.insert(out.end(), own.begin(), own.end());
      out.insert(out.end(), other.begin(), other.end());
    } else {
      out.insert(out.end(), own.begin(), own.end());
    }
    return out;
  }

  const std::vector<NewRule>& rules_;
  const oci::Seccomp& seccomp_;
  bool enosys_;
  std::vector<sock_filter> code_;
};

Result<std::vector<const Architecture*>> architectures_of(const oci::Seccomp& seccomp, void* filter) {
  std::vector<const Architecture*> out;
  const uint32_t native = ::seccomp_arch_native();
  const auto add = [&](const Architecture* architecture) {
    if (std::find(out.begin(), out.end(), architecture) == out.end()) out.push_back(architecture);
  };
  // libseccomp starts with the native one, named or not.
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.scmp == native) add(&architecture);
  }
  for (const std::string& name : seccomp.architectures) {
    const Architecture* architecture = find(kArchitectures, name);
    if (architecture == nullptr) {
      if (name == kLoongArch) {
        return errorf(ErrorKind::kUnsupported, "linux.seccomp.architectures: libseccomp here does not know {}", name);
      }
      return errorf(ErrorKind::kInvalid, "linux.seccomp.architectures: \"{}\" is not one of {}", name.substr(0, 60),
                    fmt::join(names_of(kArchitectures), ", "));
    }
    const int code = ::seccomp_arch_add(filter, architecture->scmp);
    if (code != 0 && code != -EEXIST) return seccomp_error(code, fmt::format("the architecture {}", name));
    add(architecture);
  }
  return out;
}

bool kernel_takes_flag(uint32_t flag) {
  // With a null program the kernel looks at the flags first: EFAULT means that it knows them.
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flag, nullptr) != 0 && errno == EFAULT;
}

}  // namespace

Result<SeccompFilter> seccomp_compile::compile_plain(const oci::Seccomp& seccomp) {
  TRY_ASSIGN(const uint32_t default_action,
             action_of(seccomp.default_action, seccomp.default_errno_ret, "defaultAction"));
  if (default_action == SCMP_ACT_NOTIFY) {
    return Error(ErrorKind::kInvalid,
                 "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would also stop what hands the listener over; name the "
                 "syscalls instead");
  }
  SeccompFilter out;
  for (const std::string& name : seccomp.flags) {
    const NamedValue* flag = find(kFlags, name);
    if (flag == nullptr) {
      return errorf(ErrorKind::kInvalid, "linux.seccomp.flags: \"{}\" is not one of {}", name.substr(0, 60),
                    fmt::join(names_of(kFlags), ", "));
    }
    out.flags |= flag->value;
    if (flag->value != 0 && !kernel_takes_flag(flag->value)) {
      return errorf(ErrorKind::kUnsupported, "linux.seccomp.flags: this kernel does not have {}; leave it out", name);
    }
  }

  const Filter filter(::seccomp_init(default_action));
  if (!filter) return Error(ErrorKind::kUnsupported, "linux.seccomp: libseccomp can't start a filter here");
  TRY_ASSIGN(const std::vector<const Architecture*> architectures, architectures_of(seccomp, filter.get()));
  // no_new_privs is process.noNewPrivileges' business.
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_NNP, 0);
  size_t names = 0;
  for (const oci::SeccompRule& rule : seccomp.syscalls) names += rule.names.size();
  // A binary tree over the numbers; libseccomp 2.5 errs with trees of no rules, and few rules need none.
  constexpr size_t kTreeFrom = 32;
  if (names > kTreeFrom) ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);

  std::vector<Prologue::NewRule> new_rules;
  for (const oci::SeccompRule& rule : seccomp.syscalls) {
    TRY_ASSIGN(const uint32_t action, action_of(rule.action, rule.errno_ret, "syscalls"));
    if (rule.names.empty()) return Error(ErrorKind::kInvalid, "linux.seccomp.syscalls: a rule names no syscall");
    bool doubled = false;
    TRY_ASSIGN(const std::vector<scmp_arg_cmp> compares, conditions(rule, doubled));
    if (action == SCMP_ACT_NOTIFY) {
      if (std::find(rule.names.begin(), rule.names.end(), "write") != rule.names.end()) {
        return Error(ErrorKind::kInvalid,
                     "linux.seccomp.syscalls: SCMP_ACT_NOTIFY for write would stop the start of the container itself");
      }
      out.needs_listener = true;
      out.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    // libseccomp refuses rules that say what the default says.
    if (action == default_action) continue;
    for (const std::string& name : rule.names) {
      if (seccomp_compile::is_newer_than_libseccomp(name)) {
        // Without conditions only: none of these needs any in a profile that exists.
        if (compares.empty()) new_rules.push_back({name, action});
        continue;
      }
      if (!doubled) {
        TRY(add_rule(filter.get(), name, action, compares));
        continue;
      }
      // Two conditions on one argument can't be one rule; each becomes its own (any of them), as in runc.
      for (const scmp_arg_cmp& compare : compares) TRY(add_rule(filter.get(), name, action, {compare}));
    }
  }
  if (!seccomp.listener_path.empty() && !out.needs_listener) {
    return Error(ErrorKind::kInvalid, "linux.seccomp.listenerPath: no rule has the action SCMP_ACT_NOTIFY");
  }

  TRY_ASSIGN(const std::vector<sock_filter> program, exported(filter.get()));
  const uint32_t kind = default_action & kActionMask;
  const bool permissive = kind == SCMP_ACT_ALLOW || kind == SCMP_ACT_LOG || kind == SCMP_ACT_TRACE(0);
  const bool enosys_already = default_action == SCMP_ACT_ERRNO(ENOSYS);
  const Prologue prologue(architectures, new_rules, seccomp, !permissive && !enosys_already);
  out.program = prologue.code();
  out.program.insert(out.program.end(), program.begin(), program.end());
  return out;
}

Result<SeccompFilter> compile_seccomp(const oci::Seccomp& seccomp) {
  TRY_ASSIGN(SeccompFilter out, seccomp_compile::compile_plain(seccomp));
  out.program = optimize_seccomp(out.program);
  if (out.program.size() > BPF_MAXINSNS) {
    return errorf(ErrorKind::kUnsupported, "linux.seccomp: the rules need {} instructions; the kernel takes {}",
                  out.program.size(), BPF_MAXINSNS);
  }
  return out;
}

std::vector<std::string> seccomp_actions() { return names_of(kActions); }
std::vector<std::string> seccomp_operators() { return names_of(kOperators); }
std::vector<std::string> seccomp_architectures() { return names_of(kArchitectures); }
std::vector<std::string> seccomp_known_flags() { return names_of(kFlags); }

std::vector<std::string> seccomp_supported_flags() {
  std::vector<std::string> out;
  for (const NamedValue& flag : kFlags) {
    if (flag.value == 0 || kernel_takes_flag(flag.value)) out.emplace_back(flag.name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace hull::isolation
