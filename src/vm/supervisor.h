#pragma once
// The process that stands for a machine on the host: its pid is the container's, it has the workload's standard
// streams, it lives in the container's control group and network namespace, and it ends with the workload's exit code.
// One thread, one loop. The hypervisor and the file daemon are its children and die with it, so that whatever kills it
// leaves nothing that runs; its mounts are in a mount namespace of its own.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"
#include "vm/hypervisor.h"
#include "vm/spec_plan.h"
#include "vm/vm_json.h"

namespace hull::vm {

/// Exit code of a container whose machine failed: it ended, hung, or talked nonsense. (A program's own 125 looks the
/// same; the message on standard error tells.)
inline constexpr int kMachineFailed = 125;

/// Where the machine's sockets are, as its own processes see them: the folder `vm` of the container's record, mounted
/// there in the supervisor's mount namespace. A socket's name may have 107 bytes only, a record's path is longer.
inline constexpr const char* kRunFolder = "/run/hull-vm";
/// And as everybody else sees it, below <root>/<id>.
inline constexpr const char* kMachineFolder = "vm";
inline constexpr const char* kVsockName = "vsock";

/// What create found out and the supervisor does. The descriptors are closed on neither side of the fork.
struct SupervisorPlan {
  std::string id;
  SpecPlan spec;
  VmJson vm;
  bool shares_root = false;
  bool emulated = false;
  Hypervisor* hypervisor = nullptr;
  vmm::MachineConfig machine;     ///< without what the supervisor opens: disks, nets, file systems, sockets
  std::string machine_folder;     ///< <root>/<id>/vm
  std::string user;               ///< to be looked up in the guest, with vm.resolve_user
  std::vector<int> cgroup_tasks;  ///< v1: files to write "0" to
  int creator = -1;               ///< socket to the process that creates
  int gate = -1;                  ///< listening: start connects
  int slave = -1;                 ///< of process.terminal
  int network_namespace = -1;     ///< to join; -1: a new one
};

/// The whole life of the supervisor, in the forked process. First it waits for one byte from the creator; then it
/// launches the machine and sends an outcome; then it waits for another byte, after which it lives on its own. A
/// creator that goes away before that ends it.
[[noreturn]] void supervise(SupervisorPlan plan);

}  // namespace hull::vm
