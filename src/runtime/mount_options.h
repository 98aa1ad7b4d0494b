#pragma once
// The mount options of config.md ("Linux mount options"), split into what each system call takes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "sys/mount_api.h"

namespace hull::runtime {

struct MountOptions {
  bool bind = false;
  bool recursive_bind = false;
  bool remount = false;
  bool copy_up = false;
  bool idmap = false;
  bool recursive_idmap = false;
  bool readonly = false;  ///< ro among the plain options
  uint64_t attr_set = 0, attr_clear = 0;
  uint64_t recursive_set = 0, recursive_clear = 0;
  uint64_t propagation = 0;  ///< MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE; 0 when not given
  bool propagation_recursive = false;
  std::vector<std::string> superblock_flags;  ///< sync, dirsync, lazytime, mand ...: fsconfig flags
  std::vector<sys::FsParameter> parameters;   ///< of the file system
};

/// kInvalid for options that exclude each other. What no table knows goes to the file system.
Result<MountOptions> parse_mount_options(const std::vector<std::string>& options);
/// Every name that the parser itself knows, sorted, for `features`.
std::vector<std::string> known_mount_options();
/// "rslave" and so on: MS_* and whether it is recursive. kInvalid for anything else.
struct Propagation {
  uint64_t flag = 0;
  bool recursive = false;
};
Result<Propagation> parse_propagation(std::string_view name);

}  // namespace hull::runtime
