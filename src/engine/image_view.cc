#include "engine/image_view.h"

#include "base/error_format.h"
#include "sys/overlay.h"

namespace hull::engine {

Result<std::string> join_lower_dirs(const std::vector<std::string>& folders) {
  std::string joined;
  for (const std::string& folder : folders) {
    if (folder.find_first_of(":,\\\"\n") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "folder \"{}\" can't be an overlay layer: its path holds one of : , \\ \"",
                    folder);
    }
    if (!joined.empty()) joined += ':';
    joined += folder;
  }
  return joined;
}

Result<sys::Root> open_stack(const std::vector<std::string>& folders) {
  if (folders.size() == 1) return sys::Root::open(folders[0]);
  if (folders.empty()) return errorf(ErrorKind::kInternal, "an image without layers has no view");
  TRY_ASSIGN(UniqueFd mount,
             sys::make_overlay("overlay", folders, {}, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID));
  return sys::Root::adopt(std::move(mount));
}

}  // namespace hull::engine
