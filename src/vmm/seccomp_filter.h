#pragma once
// The filters of a machine's threads are made of sys/seccomp_filter.h's rules.

#include "sys/seccomp_filter.h"

namespace hull::vmm {
using sys::assemble_filter;
using sys::install_filter;
using sys::SyscallRule;
}  // namespace hull::vmm
