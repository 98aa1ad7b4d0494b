#pragma once
// What exec inside will say of a program that is not there, told when the machine is created: engines that give a
// missing program an exit code of its own (127, 126) read it from create alone.

#include <string>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::vm {

/// Looks for process.args[0] in the root folder as the guest will (PATH of process.env, process.cwd; symbolic links
/// stay inside). kNotFound or kPermission, in the runtime's words, when no place has it; success also when it could
/// come from what is mounted, which is not looked into.
Result<void> check_program(const oci::Spec& spec, const std::string& rootfs);

}  // namespace hull::vm
