#pragma once
// linux.intelRdt through resctrl (Documentation/filesystems/resctrl.rst).

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

/// A class of service as a folder of the resctrl file system.
class IntelRdtGroup {
 public:
  /// Makes (or, when linux.intelRdt.closID names one that exists, takes) the group and writes its schemata. closID ""
  /// means the container's id. kUnsupported when resctrl is not mounted, kInvalid when an existing group's schemata
  /// differ from those asked for. `resctrl_root` is for tests; normally kResctrlRoot.
  static Result<IntelRdtGroup> create(const oci::IntelRdt& rdt, const std::string& container_id,
                                      const std::string& resctrl_root);
  /// Adds a process with all its threads (call before it runs the user's program).
  Result<void> join(pid_t pid) const;
  /// Removes what create() made; a group that was there before stays. Absent is success.
  Result<void> remove() const;

  /// For the state file: path of the group and of the monitoring group ("" when none was made), and whether they are
  /// ours to remove.
  const std::string& path() const { return path_; }
  const std::string& monitor_path() const { return monitor_path_; }
  bool made_here() const { return made_here_; }
  static IntelRdtGroup from_record(std::string path, std::string monitor_path, bool made_here);

 private:
  std::string path_;
  std::string monitor_path_;
  bool made_here_ = false;
};

inline constexpr const char* kResctrlRoot = "/sys/fs/resctrl";

}  // namespace hull::isolation
