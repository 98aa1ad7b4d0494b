#include "runtime/mount_options.h"

#include <algorithm>
#include <array>

#include "base/error_format.h"

namespace hull::runtime {
namespace {

enum class Action { kNothing, kAttribute, kAtime, kPropagation, kSuperblock, kSpecial };

struct OptionRow {
  std::string_view name;
  Action action;
  uint64_t set = 0;
  uint64_t clear = 0;
  bool recursive = false;
};

constexpr uint64_t kAtimeMask = MOUNT_ATTR__ATIME;

constexpr OptionRow kOptions[] = {
    {"acl", Action::kSuperblock},
    {"async", Action::kNothing},
    {"atime", Action::kAtime, MOUNT_ATTR_RELATIME},
    {"bind", Action::kSpecial},
    {"defaults", Action::kNothing},
    {"dev", Action::kAttribute, 0, MOUNT_ATTR_NODEV},
    {"diratime", Action::kAttribute, 0, MOUNT_ATTR_NODIRATIME},
    {"dirsync", Action::kSuperblock},
    {"exec", Action::kAttribute, 0, MOUNT_ATTR_NOEXEC},
    {"idmap", Action::kSpecial},
    {"iversion", Action::kSuperblock},
    {"lazytime", Action::kSuperblock},
    {"loud", Action::kNothing},
    {"mand", Action::kSuperblock},
    {"noacl", Action::kSuperblock},
    {"noatime", Action::kAtime, MOUNT_ATTR_NOATIME},
    {"nodev", Action::kAttribute, MOUNT_ATTR_NODEV},
    {"nodiratime", Action::kAttribute, MOUNT_ATTR_NODIRATIME},
    {"noexec", Action::kAttribute, MOUNT_ATTR_NOEXEC},
    {"noiversion", Action::kNothing},
    {"nolazytime", Action::kNothing},
    {"nomand", Action::kNothing},
    {"norelatime", Action::kAtime, MOUNT_ATTR_STRICTATIME},
    {"nostrictatime", Action::kAtime, MOUNT_ATTR_RELATIME},
    {"nosuid", Action::kAttribute, MOUNT_ATTR_NOSUID},
    {"nosymfollow", Action::kAttribute, MOUNT_ATTR_NOSYMFOLLOW},
    {"private", Action::kPropagation, MS_PRIVATE},
    {"ratime", Action::kAtime, MOUNT_ATTR_RELATIME, 0, true},
    {"rbind", Action::kSpecial},
    {"rdev", Action::kAttribute, 0, MOUNT_ATTR_NODEV, true},
    {"rdiratime", Action::kAttribute, 0, MOUNT_ATTR_NODIRATIME, true},
    {"relatime", Action::kAtime, MOUNT_ATTR_RELATIME},
    {"remount", Action::kSpecial},
    {"rexec", Action::kAttribute, 0, MOUNT_ATTR_NOEXEC, true},
    {"ridmap", Action::kSpecial},
    {"rnoatime", Action::kAtime, MOUNT_ATTR_NOATIME, 0, true},
    {"rnodev", Action::kAttribute, MOUNT_ATTR_NODEV, 0, true},
    {"rnodiratime", Action::kAttribute, MOUNT_ATTR_NODIRATIME, 0, true},
    {"rnoexec", Action::kAttribute, MOUNT_ATTR_NOEXEC, 0, true},
    {"rnorelatime", Action::kAtime, MOUNT_ATTR_STRICTATIME, 0, true},
    {"rnostrictatime", Action::kAtime, MOUNT_ATTR_RELATIME, 0, true},
    {"rnosuid", Action::kAttribute, MOUNT_ATTR_NOSUID, 0, true},
    {"rnosymfollow", Action::kAttribute, MOUNT_ATTR_NOSYMFOLLOW, 0, true},
    {"ro", Action::kAttribute, MOUNT_ATTR_RDONLY},
    {"rprivate", Action::kPropagation, MS_PRIVATE, 0, true},
    {"rrelatime", Action::kAtime, MOUNT_ATTR_RELATIME, 0, true},
    {"rro", Action::kAttribute, MOUNT_ATTR_RDONLY, 0, true},
    {"rrw", Action::kAttribute, 0, MOUNT_ATTR_RDONLY, true},
    {"rshared", Action::kPropagation, MS_SHARED, 0, true},
    {"rslave", Action::kPropagation, MS_SLAVE, 0, true},
    {"rstrictatime", Action::kAtime, MOUNT_ATTR_STRICTATIME, 0, true},
    {"rsuid", Action::kAttribute, 0, MOUNT_ATTR_NOSUID, true},
    {"rsymfollow", Action::kAttribute, 0, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"runbindable", Action::kPropagation, MS_UNBINDABLE, 0, true},
    {"rw", Action::kAttribute, 0, MOUNT_ATTR_RDONLY},
    {"shared", Action::kPropagation, MS_SHARED},
    {"silent", Action::kNothing},
    {"slave", Action::kPropagation, MS_SLAVE},
    {"strictatime", Action::kAtime, MOUNT_ATTR_STRICTATIME},
    {"suid", Action::kAttribute, 0, MOUNT_ATTR_NOSUID},
    {"symfollow", Action::kAttribute, 0, MOUNT_ATTR_NOSYMFOLLOW},
    {"sync", Action::kSuperblock},
    {"tmpcopyup", Action::kSpecial},
    {"unbindable", Action::kPropagation, MS_UNBINDABLE},
};

const OptionRow* find_option(std::string_view name) {
  const auto* row = std::lower_bound(std::begin(kOptions), std::end(kOptions), name,
                                     [](const OptionRow& a, std::string_view b) { return a.name < b; });
  return row != std::end(kOptions) && row->name == name ? row : nullptr;
}

void apply_special(std::string_view name, MountOptions& out) {
  if (name == "bind") out.bind = true;
  if (name == "rbind") out.bind = out.recursive_bind = true;
  if (name == "remount") out.remount = true;
  if (name == "tmpcopyup") out.copy_up = true;
  if (name == "idmap") out.idmap = true;
  if (name == "ridmap") out.idmap = out.recursive_idmap = true;
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::vector<std::string>& options) {
  MountOptions out;
  for (const std::string& option : options) {
    const OptionRow* row = find_option(option);
    if (row == nullptr) {
      const size_t equals = option.find('=');
      if (option.empty() || equals == 0) return errorf(ErrorKind::kInvalid, "mount option \"{}\" has no name", option);
      if (equals == std::string::npos) {
        out.parameters.push_back({option, "", true});
      } else {
        out.parameters.push_back({option.substr(0, equals), option.substr(equals + 1), false});
      }
      continue;
    }
    uint64_t& set = row->recursive ? out.recursive_set : out.attr_set;
    uint64_t& clear = row->recursive ? out.recursive_clear : out.attr_clear;
    switch (row->action) {
      case Action::kNothing:
        break;
      case Action::kAttribute:
        // The later of "ro" and "rw" holds, as in mount(8).
        set = (set & ~row->clear) | row->set;
        clear = (clear & ~row->set) | row->clear;
        break;
      case Action::kAtime:
        set = (set & ~kAtimeMask) | row->set;
        clear |= kAtimeMask;
        break;
      case Action::kPropagation:
        out.propagation = row->set;
        out.propagation_recursive = row->recursive;
        break;
      case Action::kSuperblock:
        out.superblock_flags.push_back(option);
        break;
      case Action::kSpecial:
        apply_special(option, out);
        break;
    }
  }
  out.readonly = (out.attr_set & MOUNT_ATTR_RDONLY) != 0;
  return out;
}

std::vector<std::string> known_mount_options() {
  std::vector<std::string> names;
  for (const OptionRow& row : kOptions) names.emplace_back(row.name);
  return names;
}

Result<Propagation> parse_propagation(std::string_view name) {
  const OptionRow* row = find_option(name);
  if (row == nullptr || row->action != Action::kPropagation) {
    return errorf(ErrorKind::kInvalid,
                  "propagation \"{}\": expected shared, slave, private, unbindable or one of them with r in front",
                  name);
  }
  return Propagation{row->set, row->recursive};
}

}  // namespace hull::runtime
