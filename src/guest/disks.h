#pragma once
// Block devices by the serial that the host gave them, and the root file system that is made of them.

#include <guest/agent.pb.h>

#include <chrono>
#include <string>

#include "base/error.h"
#include "guest/ttrpc.h"

namespace hull::guest {

/// The device file of a disk's partition (0: the whole disk), waiting for the kernel to announce it. kTimeout when it
/// has not come by the deadline.
Result<std::string> find_disk(const std::string& serial, uint32_t partition, ttrpc::Deadline deadline);

/// Mounts the layers and stacks them at run_dir/root (agent.proto, OverlayRoot).
Result<void> mount_overlay_root(const proto::OverlayRoot& wanted, const std::string& run_dir, ttrpc::Deadline deadline);

/// mount(2) of a new file system with the folder made, and an error that names both.
Result<void> mount_at(const std::string& source, const std::string& target, const char* type, unsigned long flags,
                      const std::string& options = "");

}  // namespace hull::guest
