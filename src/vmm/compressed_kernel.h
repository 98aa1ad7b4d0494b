#pragma once
// A kernel that comes as bzImage: hull-kernel, a program of its own with the libraries that this takes, unpacks it once
// and keeps what comes out. Only before the jail.

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

/// By its first bytes (Linux, Documentation/x86/boot.rst).
bool is_bzimage(int fd);

/// The vmlinux inside the bzImage that `fd` reads from its start, open for reading. `name` is for messages. kInvalid
/// with what hull-kernel says; kNotFound when that program is not beside this one.
Result<UniqueFd> unpack_bzimage(int fd, const std::string& name);

}  // namespace hull::vmm
