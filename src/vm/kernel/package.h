#pragma once
// What is needed of a Debian kernel package (deb(5): an ar archive whose member data.tar.* holds the files).

#include <string>

#include "base/error.h"

namespace hull::vm {

struct KernelPackage {
  std::string version;  ///< of the files' names: boot/vmlinuz-<version>
  std::string kernel;   ///< path of the unpacked vmlinuz
  std::string config;   ///< of the unpacked build configuration; "" when the package has none
  std::string modules;  ///< folder with the modules, all directly in it, and modules.builtin
};
/// Unpacks into `folder`, which exists and is empty. Nothing of the archive's paths is used but checked last parts. An
/// archive with no kernel or several, or larger than a kernel is, is kInvalid.
Result<KernelPackage> unpack_kernel_package(const std::string& deb, const std::string& folder);

/// A kernel's version as a folder's name: letters, digits and "+-._~", not beginning with a dot, at most 64 bytes.
bool is_kernel_version(std::string_view text);

}  // namespace hull::vm
