#pragma once
// What `hull doctor` says of virtual machines.

#include <string>
#include <vector>

#include "engine/engine.h"
#include "vm/hypervisor.h"

namespace hull::engine {

/// Lines about the hypervisor that serves here and why, the guest kernel below `data_root`, and the programs.
std::vector<Check> check_virtual_machines(const std::string& data_root, const vm::HostVirtualization& host,
                                          const vm::Programs& programs);

}  // namespace hull::engine
