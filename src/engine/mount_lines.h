#pragma once
// Mounts as the index and WorkloadSummary::mounts hold them: "SOURCE<tab>ro<tab>TARGET". Rows of older versions hold
// the source alone.

#include <string>
#include <string_view>

namespace hull::engine {

struct MountLine {
  std::string source, target;  // a volume's name or a path; "": not known
  bool read_only = false;
};

std::string mount_line(const MountLine& mount);
MountLine read_mount_line(std::string_view line);

}  // namespace hull::engine
