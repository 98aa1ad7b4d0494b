#pragma once
// Where a guest kernel comes from: what the user named, what is there already, or a download.

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace hull::vm {

/// The files of one kernel.
struct KernelSource {
  std::string version;  ///< "" when only the file itself can tell
  std::string kernel;   ///< bzImage or vmlinux
  std::string modules;  ///< folder
  std::string config;   ///< build configuration; "" when there is none
  std::string label;    ///< for the manifest: the file's name, or "host"
};

/// `source` as in InstallRequest; packages are unpacked, and downloaded, below `scratch`, an empty folder.
Result<KernelSource> find_kernel_source(const std::string& source, const std::string& modules,
                                        const std::string& scratch,
                                        const std::function<void(std::string_view line)>& tell);

/// The newest of the folder's cloud kernel packages ("linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb"), or "".
std::string newest_kernel_package(const std::string& folder);

/// Of the lines that `apt-cache depends linux-image-cloud-amd64` prints: the package that it depends on, or "".
std::string kernel_package_of(std::string_view depends);

}  // namespace hull::vm
