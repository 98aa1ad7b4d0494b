#pragma once
// Folders and files of the host in the guest: bind mounts below one folder in the supervisor's own mount namespace,
// served by one virtiofsd (QEMU's, in its own sandbox) over virtio-fs.

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vm/spec_plan.h"

namespace hull::vm {

/// Makes `folder` a small tmpfs with an entry for each share, bound to its source; read-only ones are so by the host's
/// kernel. To be called in a mount namespace of its own. Errors name the share's member.
Result<void> mount_shares(const std::vector<Share>& shares, const std::string& folder);

struct FileDaemon {
  pid_t pid = -1;
  UniqueFd pidfd;
};
/// Starts virtiofsd on the folder. Its socket at `socket_path` listens already when this returns, so that the machine
/// can be started at once. `fresh`: what the host changes is seen at once, else within a second, with fewer questions
/// to the host. `log_fd` gets its standard error. It dies with the calling thread. kUnsupported, with what to install,
/// when there is none.
Result<FileDaemon> start_file_daemon(const std::string& folder, const std::string& socket_path, bool fresh, int log_fd);

}  // namespace hull::vm
