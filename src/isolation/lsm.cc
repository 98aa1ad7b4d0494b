#include "isolation/lsm.h"

#include <linux/magic.h>
#include <sys/statfs.h>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

bool has_control_characters(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return true;
  }
  return false;
}

Result<void> check_selinux(std::string_view label, std::string_view member) {
  if (has_control_characters(label)) {
    return errorf(ErrorKind::kInvalid, "{}: the label holds control characters", member);
  }
  if (!selinux_enabled()) {
    return errorf(ErrorKind::kUnsupported, "{}: \"{}\" is asked for, but SELinux is off on this host; leave it out",
                  member, label);
  }
  return {};
}

}  // namespace

bool apparmor_enabled() {
  static const bool enabled = [] {
    const Result<std::string> text = sys::read_file("/sys/module/apparmor/parameters/enabled", 16);
    return text.ok() && text->starts_with('Y');
  }();
  return enabled;
}

bool selinux_enabled() {
  static const bool enabled = [] {
    struct statfs info = {};
    return ::statfs("/sys/fs/selinux", &info) == 0 && info.f_type == SELINUX_MAGIC;
  }();
  return enabled;
}

Result<LabelWrite> apparmor_exec(std::string_view profile) {
  if (profile.empty()) return LabelWrite{};
  if (has_control_characters(profile)) {
    return Error(ErrorKind::kInvalid, "process.apparmorProfile: the name holds control characters");
  }
  if (!apparmor_enabled()) {
    // Without AppArmor everything is unconfined, so that wish is met.
    if (profile == "unconfined") return LabelWrite{};
    return errorf(ErrorKind::kUnsupported,
                  "process.apparmorProfile: \"{}\" is asked for, but AppArmor is off on this host; leave it out",
                  profile);
  }
  return LabelWrite{
      .path = "attr/apparmor/exec", .fallback_path = "attr/exec", .value = fmt::format("exec {}", profile)};
}

Result<LabelWrite> selinux_exec(std::string_view label) {
  if (label.empty()) return LabelWrite{};
  TRY(check_selinux(label, "process.selinuxLabel"));
  return LabelWrite{.path = "attr/exec", .fallback_path = {}, .value = std::string(label)};
}

Result<LabelWrite> selinux_keycreate(std::string_view label) {
  if (label.empty()) return LabelWrite{};
  TRY(check_selinux(label, "process.selinuxLabel"));
  return LabelWrite{.path = "attr/keycreate", .fallback_path = {}, .value = std::string(label)};
}

std::string mount_label_option(std::string_view label) {
  if (label.empty() || !selinux_enabled()) return {};
  return fmt::format("context=\"{}\"", label);
}

}  // namespace hull::isolation
