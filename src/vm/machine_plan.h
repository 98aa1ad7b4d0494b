#pragma once
// From a bundle to everything that a machine is made of, before anything is made: config.json, vm.json, the guest's
// kernel, the hypervisor.

#include <memory>
#include <string>

#include "base/error.h"
#include "oci/runtime_spec.h"
#include "vm/hypervisor.h"
#include "vm/spec_plan.h"
#include "vm/vm_json.h"

namespace hull::vm {

struct MachinePlan {
  std::string bundle;  ///< absolute
  oci::Spec spec;      ///< as the bundle has it, sysctls of the guest's kernel taken out
  SpecPlan parts;
  VmJson vm;  ///< vm.json, or what stands for it
  bool shares_root = false;
  std::string rootfs;  ///< for the record
  Choice choice;
  vmm::MachineConfig machine;  ///< size, kernel, command line
  uint64_t host_limit = 0;     ///< bytes of the control group
};

/// Reads the bundle and chooses. kUnsupported and kInvalid name the member that stands in the way; kNotFound without a
/// guest kernel says which command installs one.
Result<MachinePlan> plan_machine(const std::string& bundle, const std::string& config);

}  // namespace hull::vm
