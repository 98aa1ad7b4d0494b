#pragma once
// AppArmor and SELinux: whether they are there, and what to write where.

#include <string>
#include <string_view>

#include "base/error.h"

namespace hull::isolation {

/// AppArmor is compiled in and switched on (/sys/module/apparmor/parameters/enabled starts with Y). Read once.
bool apparmor_enabled();
/// SELinux is switched on (selinuxfs is mounted at /sys/fs/selinux). Read once.
bool selinux_enabled();

/// One write to a file of the process's own procfs folder, right before exec.
struct LabelWrite {
  std::string path;           ///< below /proc/thread-self (or /proc/self/task/TID): "attr/apparmor/exec" ...
  std::string fallback_path;  ///< to be tried on ENOENT ("attr/exec"); may be empty
  std::string value;          ///< what to write, in one write(2)
  bool empty() const { return path.empty(); }
};
/// For process.apparmorProfile. Empty when profile is "" (or "unconfined" where AppArmor is off). kUnsupported when a
/// profile is asked for and AppArmor is off; kInvalid for names with control characters.
Result<LabelWrite> apparmor_exec(std::string_view profile);
/// For process.selinuxLabel: attr/exec. kUnsupported when asked for and SELinux is off.
Result<LabelWrite> selinux_exec(std::string_view label);
/// For keys made by the process: attr/keycreate (written before the session keyring is made). Empty without label.
Result<LabelWrite> selinux_keycreate(std::string_view label);
/// The mount option for linux.mountLabel: context="LABEL" (without a leading comma); "" when the label is empty or
/// SELinux is off (as runc does: the label has no meaning there).
std::string mount_label_option(std::string_view label);

}  // namespace hull::isolation
