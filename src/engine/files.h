#pragma once
// What is asked of and done to the files of a workload, and the changes to one that exists: types of engine.h.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/config.h"
#include "tar/changes.h"
#include "tar/path_access.h"

namespace hull::engine {

using tar::FileChange;
using tar::PathStat;
/// Go's os.FileMode, which Docker's API shows instead of st_mode.
uint32_t go_file_mode(uint32_t mode);

using ByteTaker = std::function<Result<void>(std::string_view bytes)>;
/// Fills the buffer with at least one byte; 0 at the end.
using ByteGiver = std::function<Result<size_t>(char* buffer, size_t size)>;

struct PutOptions {
  bool no_overwrite_dir_non_dir = false;
  bool to_container_user = false;  // everything belongs to the workload's user (Docker's copyUIDGID)
};

struct CommitRequest {
  std::string reference;  // "": no name
  std::string author, comment;
  std::vector<std::string> changes;  // Dockerfile instructions
  bool pause = true;
};

/// What is absent stays as it is. In the units of Config.
struct UpdateRequest {
  std::optional<int64_t> memory, memory_swap, memory_reservation, nano_cpus, cpu_shares, cpu_period, cpu_quota,
      cpu_rt_period, cpu_rt_runtime, pids_limit;
  std::optional<std::string> cpuset_cpus, cpuset_mems;
  std::optional<uint16_t> blkio_weight;
  /// The rules of all devices, in place of those before; none clears them.
  std::optional<std::vector<Config::DeviceRate>> blkio_weight_device, device_read_bps, device_write_bps,
      device_read_iops, device_write_iops;
  std::optional<RestartPolicy> restart;
  bool changes_devices() const;
  bool changes_limits() const;
};

}  // namespace hull::engine
