#pragma once
// vm.json, what the engine tells hull-oci-vm about a workload beside its config.json. It lies in the bundle, which only
// root writes, never inside the workload's root. A bundle without it (Podman, Docker, a hand-made one) has its root
// folder shared with the guest.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vm {

inline constexpr std::string_view kVmJsonName = "vm.json";
/// Network cards of one machine: QEMU's microvm has transports for 24 devices of all kinds.
inline constexpr uint32_t kMostNics = 8;

struct VmJson {
  /// EROFS layer blobs of the image, uppermost first: absolute paths. They stay as long as the workload exists (the
  /// store holds them for it).
  std::vector<std::string> layers;
  /// Writable ext4 disk (scratch_disk.h), there already; the overlay's upper and work folders are on it.
  std::string scratch;
  uint64_t memory_bytes = 0;  ///< of the machine: what the workload may use and what the guest's kernel needs
  uint32_t vcpus = 1;
  uint32_t nics = 0;                ///< network cards, one for each network; 0: as many as the namespace has interfaces
  std::string hypervisor = "auto";  ///< auto, kvm, qemu
  std::string data_root;            ///< the engine's: its guest kernels are below (kernel_store.h)
  std::string kernel;               ///< name of one of them; "": the default
  std::string console_log;          ///< gets what the guest's kernel says
  /// A file that is there: gets the line "oom_kill 1" when the workload met its memory limit, as a control group's
  /// memory.events says it.
  std::string oom_file;
  /// Who the workload runs as, looked up in the guest, in the files of its own root: the text stands in
  /// process.user.username of config.json and of exec's process document ("", "user", "uid", "user:group", "uid:gid";
  /// "" is root), the groups of --group-add here. HOME is the user's unless the environment has one. False: the
  /// numbers of process.user count.
  bool resolve_user = false;
  std::vector<std::string> groups_add;
};

/// kInvalid with the member's name for wrong types, unknown members, relative paths, and numbers out of range.
Result<VmJson> parse_vm_json(std::string_view json);
std::string to_json(const VmJson& vm);

}  // namespace hull::vm
