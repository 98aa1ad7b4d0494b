#pragma once
// Installing a guest kernel: from a Debian package, a kernel file with its modules, or this machine's own.

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "vm/kernel_store.h"

namespace hull::vm {

struct InstallRequest {
  std::string data_root;
  /// Path of a .deb, of a bzImage or of a vmlinux; "host"; "" finds or downloads a package.
  std::string source;
  std::string modules;  ///< for a kernel file: the folder with its modules, /lib/modules/VERSION
  std::string guest;    ///< path of hull-guest
  bool make_default = true;
  std::function<void(std::string_view line)> tell;  ///< what is being done, for people; may be empty
};

/// Puts the kernel into the store and gives it back. A crash at any point leaves the store as it was, or with the
/// kernel whole; one of the same version is replaced in one step.
Result<GuestKernel> install_kernel(const InstallRequest& request);

/// Makes the initramfs anew when `guest` is another hull-guest than the one in it. True when it was made.
Result<bool> refresh_kernel(const std::string& data_root, std::string_view name, const std::string& guest);

}  // namespace hull::vm
