#pragma once
// Facts about this host that the engine needs more than once.

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/config.h"
#include "engine/engine.h"

namespace hull::engine {

/// The file that tells of kills for lack of memory in a workload's cgroup: memory.events (v2) or memory.oom_control
/// (v1). "" when there is no memory controller or systemd chooses the place.
std::string host_cgroup_file(const Config& config, const Settings& settings, std::string_view id);
/// Whether limits on memory plus swap can be set.
bool host_has_swap_accounting();
/// The path of `hull`, for the monitor to call back: this program, or the one that belongs to it.
std::string own_program();
std::string host_name();
uint64_t host_memory();
uint32_t host_cpus();
/// Bytes on disk below a folder, not crossing mounts; hard links count once.
uint64_t tree_size(const std::string& folder);

}  // namespace hull::engine
