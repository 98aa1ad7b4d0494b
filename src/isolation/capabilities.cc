#include "isolation/capabilities.h"

#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/units.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

// By number, linux/capability.h up to Linux 6.18.
constexpr std::array<std::string_view, 41> kNames = {"CAP_CHOWN",
                                                     "CAP_DAC_OVERRIDE",
                                                     "CAP_DAC_READ_SEARCH",
                                                     "CAP_FOWNER",
                                                     "CAP_FSETID",
                                                     "CAP_KILL",
                                                     "CAP_SETGID",
                                                     "CAP_SETUID",
                                                     "CAP_SETPCAP",
                                                     "CAP_LINUX_IMMUTABLE",
                                                     "CAP_NET_BIND_SERVICE",
                                                     "CAP_NET_BROADCAST",
                                                     "CAP_NET_ADMIN",
                                                     "CAP_NET_RAW",
                                                     "CAP_IPC_LOCK",
                                                     "CAP_IPC_OWNER",
                                                     "CAP_SYS_MODULE",
                                                     "CAP_SYS_RAWIO",
                                                     "CAP_SYS_CHROOT",
                                                     "CAP_SYS_PTRACE",
                                                     "CAP_SYS_PACCT",
                                                     "CAP_SYS_ADMIN",
                                                     "CAP_SYS_BOOT",
                                                     "CAP_SYS_NICE",
                                                     "CAP_SYS_RESOURCE",
                                                     "CAP_SYS_TIME",
                                                     "CAP_SYS_TTY_CONFIG",
                                                     "CAP_MKNOD",
                                                     "CAP_LEASE",
                                                     "CAP_AUDIT_WRITE",
                                                     "CAP_AUDIT_CONTROL",
                                                     "CAP_SETFCAP",
                                                     "CAP_MAC_OVERRIDE",
                                                     "CAP_MAC_ADMIN",
                                                     "CAP_SYSLOG",
                                                     "CAP_WAKE_ALARM",
                                                     "CAP_BLOCK_SUSPEND",
                                                     "CAP_AUDIT_READ",
                                                     "CAP_PERFMON",
                                                     "CAP_BPF",
                                                     "CAP_CHECKPOINT_RESTORE"};

int read_last_capability() {
  const Result<std::string> text = sys::read_file("/proc/sys/kernel/cap_last_cap", 64);
  if (text.ok()) {
    const Result<int64_t> number = parse_int(std::string_view(*text).substr(0, text->find('\n')), 0, 63);
    if (number.ok()) return static_cast<int>(*number);
  }
  // Without /proc: PR_CAPBSET_READ fails with EINVAL for numbers that the kernel doesn't have.
  int last = -1;
  while (last < 63 && ::prctl(PR_CAPBSET_READ, last + 1, 0, 0, 0) >= 0) ++last;
  return last;
}

}  // namespace

int last_capability() {
  static const int last = read_last_capability();
  return last;
}

uint64_t all_capabilities() {
  const int last = last_capability();
  return last >= 63 ? ~0ULL : (1ULL << (last + 1)) - 1;
}

std::string_view capability_name(int number) {
  if (number < 0 || static_cast<size_t>(number) >= kNames.size()) return {};
  return kNames[static_cast<size_t>(number)];
}

std::optional<int> capability_number(std::string_view name) {
  constexpr std::string_view kPrefix = "CAP_";
  const auto same = [](std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
      return std::toupper(static_cast<unsigned char>(x)) == std::toupper(static_cast<unsigned char>(y));
    });
  };
  if (name.size() > kPrefix.size() && same(name.substr(0, kPrefix.size()), kPrefix)) name.remove_prefix(kPrefix.size());
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (same(name, kNames[i].substr(kPrefix.size()))) return static_cast<int>(i);
  }
  return std::nullopt;
}

std::vector<std::string> capability_names(uint64_t mask) {
  std::vector<std::string> names;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if ((mask >> i & 1U) != 0) names.emplace_back(kNames[i]);
  }
  return names;
}

ResolvedCapabilities resolve_capabilities(const oci::Capabilities& wanted) {
  ResolvedCapabilities out;
  const uint64_t available = all_capabilities();
  const auto mask_of = [&](const std::vector<std::string>& names) {
    uint64_t mask = 0;
    for (const std::string& name : names) {
      const std::optional<int> number = capability_number(name);
      if (number && (available >> *number & 1U) != 0) {
        mask |= 1ULL << *number;
      } else if (std::find(out.ignored.begin(), out.ignored.end(), name) == out.ignored.end()) {
        out.ignored.push_back(name);
      }
    }
    return mask;
  };
  out.sets.bounding = mask_of(wanted.bounding);
  out.sets.effective = mask_of(wanted.effective);
  out.sets.inheritable = mask_of(wanted.inheritable);
  out.sets.permitted = mask_of(wanted.permitted);
  out.sets.ambient = mask_of(wanted.ambient) & out.sets.permitted & out.sets.inheritable;
  return out;
}

}  // namespace hull::isolation
