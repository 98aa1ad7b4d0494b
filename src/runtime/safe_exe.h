#pragma once

#include "base/error.h"

namespace hull::runtime {

/// Whatever enters a container could be reached there as /proc/PID/exe and, once it has ended, be written through that
/// (CVE-2019-5736). So a program that enters runs from a read-only, detached copy of its own mount, or from a sealed
/// anonymous file where mounts are not allowed. Executes argv again when this process does not; returns when it does.
Result<void> ensure_safe_exe(char** argv);

}  // namespace hull::runtime
