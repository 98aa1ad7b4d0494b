#pragma once
// The guest kernels that are installed: <data root>/vm/kernels/<name>/{vmlinux,initramfs,modules/,manifest.json}, and a
// link "default" beside them. Light, for the path of `run`; the program hull-kernel installs them (vm/kernel/).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vm {

struct GuestKernel {
  std::string name;       ///< its version: "6.1.0-56-cloud-amd64"
  std::string folder;     ///< <data root>/vm/kernels/<name>
  std::string vmlinux;    ///< uncompressed ELF file with a PVH entry
  std::string initramfs;  ///< hull-guest as /init, modules below /modules in the order of /modules/order
  bool is_default = false;
  std::string source;                       ///< what it was installed from, as the user named it
  std::string installed;                    ///< RFC 3339
  std::vector<std::string> modules;         ///< in the initramfs, in loading order, without ".ko"
  std::vector<std::string> module_devices;  ///< of each, the virtio devices that it is for; "" is all machines
  uint64_t vmlinux_bytes = 0;
  uint64_t initramfs_bytes = 0;             ///< as stored
  uint64_t initramfs_compressed_bytes = 0;  ///< what it takes compressed
  /// The hull-guest that the initramfs holds: size and mtime tell quickly whether it is still the installed one.
  std::string guest_sha256;
  uint64_t guest_bytes = 0;
  int64_t guest_mtime_ns = 0;
};

class KernelStore {
 public:
  /// `data_root` is the engine's (/var/lib/hull). Nothing is opened or made.
  explicit KernelStore(std::string data_root) : data_root_(std::move(data_root)) {}

  /// By name, the default first. A damaged one is left out of the list and named in `damaged` (when not null).
  Result<std::vector<GuestKernel>> list(std::vector<std::string>* damaged = nullptr) const;
  /// The named one; "" or "default" is the default. kNotFound says 'hull vm kernel install' when there is none, and
  /// which there are when the name is wrong; kCorrupt when its files are not what the manifest says.
  Result<GuestKernel> find(std::string_view name) const;
  /// find(), and its initramfs holds the hull-guest that is installed now: hull-kernel makes it anew when it changed.
  Result<GuestKernel> ready(std::string_view name) const;
  /// Makes it the default.
  Result<void> use(std::string_view name) const;
  /// Removes it; the newest other one becomes the default when it was that. A running machine keeps its files open.
  Result<void> remove(std::string_view name) const;

  std::string folder() const { return data_root_ + "/vm/kernels"; }

 private:
  Result<GuestKernel> read(const std::string& name, const std::string& default_name) const;

  std::string data_root_;
};

/// manifest.json of an installed kernel, and back; `folder` is the store's, the paths are made from it.
std::string manifest_json(const GuestKernel& kernel);
Result<GuestKernel> parse_manifest(std::string_view text, const std::string& folder, const std::string& name);

/// HULL_ROOT, else /var/lib/hull: for programs that have no engine (hull-oci-vm under Podman or Docker).
std::string default_data_root();

}  // namespace hull::vm
