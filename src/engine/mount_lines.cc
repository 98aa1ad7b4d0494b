#include "engine/mount_lines.h"

namespace hull::engine {

std::string mount_line(const MountLine& mount) {
  return mount.source + (mount.read_only ? "\tro\t" : "\trw\t") + mount.target;
}

MountLine read_mount_line(std::string_view line) {
  const size_t mode = line.find('\t');
  const size_t target = mode == std::string_view::npos ? mode : line.find('\t', mode + 1);
  if (target == std::string_view::npos) return {std::string(line), "", false};
  return {std::string(line.substr(0, mode)), std::string(line.substr(target + 1)),
          line.substr(mode + 1, target - mode - 1) == "ro"};
}

}  // namespace hull::engine
