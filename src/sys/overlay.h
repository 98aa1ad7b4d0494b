#pragma once
// overlayfs over any number of lower folders, as a detached mount.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "sys/mount_api.h"

namespace hull::sys {

/// How the kernel is told of the lower folders.
enum class LowerFolders {
  kAuto,       ///< the first of the following that works
  kOneString,  ///< "lowerdir=a:b:c" through fsconfig, which takes up to 255 bytes
  kAppended,   ///< "lowerdir+" for each folder (Linux 6.8)
  kLinks,      ///< mount(2) with short relative names: some hundreds of folders fit its one page on any kernel
};

/// A detached overlay mount. `lower`: plain paths, uppermost first. `parameters`: upperdir, workdir and what else
/// overlayfs takes; flags of the super block are flag parameters ("ro", "sync"). `attributes`: MOUNT_ATTR_*.
/// kLinks works in a mount namespace of its own, so that a process killed inside it leaves nothing; it needs /proc.
Result<UniqueFd> make_overlay(const std::string& source, const std::vector<std::string>& lower,
                              const std::vector<FsParameter>& parameters, uint64_t attributes,
                              LowerFolders how = LowerFolders::kAuto);

/// "a:b\:c" as overlayfs reads it: "a", "b:c".
std::vector<std::string> split_lower_folders(std::string_view value);

}  // namespace hull::sys
