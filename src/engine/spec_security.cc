#include <sys/prctl.h>
#include <sys/utsname.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/spec.h"
#include "isolation/capabilities.h"
#include "oci/json_reader.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using oci::JsonReader;

struct RuleCondition {
  std::vector<std::string> caps, arches;
  std::string min_kernel;
};

void read_condition(JsonReader& r, RuleCondition& out) {
  r.object([&](std::string_view key) {
    if (key == "caps") return r.value(out.caps);
    if (key == "arches") return r.value(out.arches);
    if (key == "minKernel") return r.value(out.min_kernel);
    return false;
  });
}

/// "4.8" <= the running kernel.
bool kernel_at_least(std::string_view version) {
  utsname name{};
  if (::uname(&name) != 0) return false;
  const auto split = [](std::string_view text) {
    const size_t dot = text.find('.');
    size_t end = dot + 1;
    while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
    const auto major = parse_int(text.substr(0, dot), 0, 1000);
    const auto minor = dot == std::string_view::npos ? Result<int64_t>(int64_t{0})
                                                     : parse_int(text.substr(dot + 1, end - dot - 1), 0, 1000);
    return std::pair(major.ok() ? *major : 0, minor.ok() ? *minor : 0);
  };
  return split(name.release) >= split(version);
}

constexpr const char* kNativeArch =
#if defined(__x86_64__)
    "amd64";
constexpr const char* kNativeScmp = "SCMP_ARCH_X86_64";
#elif defined(__aarch64__)
    "arm64";
constexpr const char* kNativeScmp = "SCMP_ARCH_AARCH64";
#else
    "unknown";
constexpr const char* kNativeScmp = "";
#endif

bool has_capability(uint64_t mask, const std::string& name) {
  const auto number = isolation::capability_number(name);
  return number && (mask >> *number & 1) != 0;
}

bool any_arch(const std::vector<std::string>& arches) {
  return std::find(arches.begin(), arches.end(), kNativeArch) != arches.end();
}

/// Docker's rule: every listed capability is held, the architecture is listed, the kernel is new enough.
bool included(const RuleCondition& in, uint64_t mask) {
  if (!in.arches.empty() && !any_arch(in.arches)) return false;
  if (!in.min_kernel.empty() && !kernel_at_least(in.min_kernel)) return false;
  return std::all_of(in.caps.begin(), in.caps.end(), [&](const std::string& c) { return has_capability(mask, c); });
}
bool excluded(const RuleCondition& ex, uint64_t mask) {
  if (!ex.arches.empty() && any_arch(ex.arches)) return true;
  if (!ex.min_kernel.empty() && kernel_at_least(ex.min_kernel)) return true;
  return std::any_of(ex.caps.begin(), ex.caps.end(), [&](const std::string& c) { return has_capability(mask, c); });
}

/// Every capability of Linux 5.9 and later.
constexpr uint64_t kGuestCapabilities = (1ULL << 41) - 1;

/// What may be given at all: known to the kernel, and not taken from this process (a host may be a container itself).
uint64_t available_capabilities() {
  static const uint64_t mask = [] {
    uint64_t bounding = 0;
    for (int number = 0; number <= isolation::last_capability(); ++number) {
      if (::prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) bounding |= 1ULL << number;
    }
    return bounding & isolation::all_capabilities();
  }();
  return mask;
}

}  // namespace

Result<std::vector<std::string>> effective_capabilities(const Config& config) {
  // A guest's root has whatever its kernel knows, also what was taken from this process.
  const uint64_t all = config.isolation == Isolation::kVm ? kGuestCapabilities : available_capabilities();
  const auto mask_of = [&](const std::vector<std::string>& names, bool* every) -> Result<uint64_t> {
    uint64_t mask = 0;
    for (const std::string& name : names) {
      std::string upper = name;
      for (char& c : upper) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
      if (upper == "ALL") {
        *every = true;
        continue;
      }
      const auto number = isolation::capability_number(upper);
      if (!number) return errorf(ErrorKind::kInvalid, "invalid capability: \"{}\"", name);
      if ((all >> *number & 1) == 0) {
        return errorf(ErrorKind::kUnsupported,
                      "invalid CapAdd or CapDrop: capability not supported by your kernel or not available in the "
                      "current environment: \"{}\"",
                      name);
      }
      mask |= 1ULL << *number;
    }
    return mask;
  };
  bool add_all = false, drop_all = false;
  TRY_ASSIGN(const uint64_t added, mask_of(config.cap_add, &add_all));
  TRY_ASSIGN(const uint64_t dropped, mask_of(config.cap_drop, &drop_all));
  if (config.privileged) return isolation::capability_names(all);
  uint64_t mask = isolation::kDefaultCapabilities & all;
  if (drop_all) mask = 0;
  if (add_all) mask = all;
  mask |= added;
  mask &= ~dropped;
  // "--cap-drop ALL --cap-add X" keeps X, and "--cap-add ALL --cap-drop X" loses X.
  if (drop_all && !add_all) mask = added & ~dropped;
  return isolation::capability_names(mask);
}

Result<SecurityOptions> parse_security_options(const std::vector<std::string>& options) {
  SecurityOptions out;
  for (const std::string& option : options) {
    // "name=value", or with a colon as older clients write it.
    const size_t at = option.find_first_of("=:");
    const std::string name = option.substr(0, at);
    const std::string value = at == std::string::npos ? std::string() : option.substr(at + 1);
    const auto flag = [&]() -> Result<bool> {
      if (at == std::string::npos || value == "true" || value == "1") return true;
      if (value == "false" || value == "0") return false;
      return errorf(ErrorKind::kInvalid, "invalid --security-opt 2: \"{}\": expected true or false", option);
    };
    if (name == "no-new-privileges") {
      TRY_ASSIGN(out.no_new_privileges, flag());
    } else if (name == "writable-cgroups") {
      TRY_ASSIGN(out.writable_cgroups, flag());
    } else if (name == "seccomp") {
      out.seccomp_unconfined = value == "unconfined";
      out.seccomp_profile.clear();
      if (value.empty()) return errorf(ErrorKind::kInvalid, "invalid --security-opt: \"{}\": no profile", option);
      if (value.starts_with('{')) {
        out.seccomp_profile = value;
      } else if (value != "unconfined" && value != "builtin") {
        auto text = sys::read_file(value, 4 << 20);
        if (!text.ok()) return std::move(text).error().context("opening seccomp profile failed");
        out.seccomp_profile = std::move(text).value();
      }
    } else if (name == "apparmor") {
      out.apparmor = value;
    } else if (name == "label") {
      // user, role, type, level make a label only together with a policy; without SELinux "disable" is what is there.
      if (value != "disable") {
        return errorf(ErrorKind::kUnsupported,
                      "--security-opt {}: SELinux labels need a host with SELinux; leave the option out", option);
      }
    } else if (name == "systempaths" && value == "unconfined") {
      out.systempaths_unconfined = true;
    } else {
      return errorf(ErrorKind::kInvalid, "invalid --security-opt 2: \"{}\"", option);
    }
  }
  return out;
}

Result<oci::Seccomp> parse_seccomp_profile(std::string_view json, uint64_t capabilities) {
  oci::Seccomp out;
  struct ArchMap {
    std::string architecture;
    std::vector<std::string> sub;
  };
  std::vector<ArchMap> arch_map;
  JsonReader r(json);
  r.object([&](std::string_view key) {
    if (key == "defaultAction") return r.value(out.default_action);
    if (key == "defaultErrnoRet") return r.value(out.default_errno_ret.emplace());
    if (key == "architectures") return r.value(out.architectures);
    if (key == "flags") return r.value(out.flags);
    if (key == "listenerPath") return r.value(out.listener_path);
    if (key == "listenerMetadata") return r.value(out.listener_metadata);
    if (key == "archMap") {
      r.array([&] {
        ArchMap& map = arch_map.emplace_back();
        r.object([&](std::string_view name) {
          if (name == "architecture") return r.value(map.architecture);
          if (name == "subArchitectures") return r.value(map.sub);
          return false;
        });
      });
      return true;
    }
    if (key == "syscalls") {
      r.array([&] {
        oci::SeccompRule rule;
        RuleCondition includes, excludes;
        r.object([&](std::string_view name) {
          if (name == "names") return r.value(rule.names);
          if (name == "name") return r.value(rule.names.emplace_back());
          if (name == "action") return r.value(rule.action);
          if (name == "errnoRet") return r.value(rule.errno_ret.emplace());
          if (name == "includes" || name == "excludes") {
            read_condition(r, name == "includes" ? includes : excludes);
            return true;
          }
          if (name == "args") {
            r.array([&] {
              oci::SeccompArg& arg = rule.args.emplace_back();
              r.object([&](std::string_view part) {
                if (part == "index") return r.value(arg.index);
                if (part == "value") return r.value(arg.value);
                if (part == "valueTwo") return r.value(arg.value_two);
                if (part == "op") return r.value(arg.op);
                return false;
              });
            });
            return true;
          }
          return false;
        });
        if (included(includes, capabilities) && !excluded(excludes, capabilities) && !rule.names.empty()) {
          out.syscalls.push_back(std::move(rule));
        }
      });
      return true;
    }
    return false;
  });
  TRY(r.finish().context("decode seccomp profile"));
  if (out.default_action.empty()) {
    return errorf(ErrorKind::kInvalid, "seccomp profile: \"defaultAction\" is missing");
  }
  if (!arch_map.empty() && !out.architectures.empty()) {
    return errorf(ErrorKind::kInvalid, "seccomp profile: use either \"architectures\" or \"archMap\"");
  }
  for (const ArchMap& map : arch_map) {
    if (map.architecture != kNativeScmp) continue;
    out.architectures.push_back(map.architecture);
    out.architectures.insert(out.architectures.end(), map.sub.begin(), map.sub.end());
  }
  return out;
}

}  // namespace hull::engine
