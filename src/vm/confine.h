#pragma once
// A supervisor's walls towards the guest, whose bytes it reads: once the workload runs it needs nothing of the host but
// what it holds open.

#include <string>

#include "base/error.h"

namespace hull::vm {

/// The calling process sees nothing but `folder` from now on (as its root), gains no privilege by any exec, and keeps
/// no capability but the one to end its children, who may have become other users. Its mounts of the host's files below
/// `shares` are taken away first; "" for none.
Result<void> confine(const std::string& folder, const std::string& shares);

}  // namespace hull::vm
