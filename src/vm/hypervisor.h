#pragma once
// The two ways to run a machine, behind one interface: hull-vmm on KVM, and QEMU (software emulation, or its own use of
// KVM on demand). Both start from the same MachineConfig.

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/machine_config.h"

namespace hull::vm {

/// One process of a machine; a direct child of who started the machine, who waits for it (waitid on the pidfd).
struct MachineProcess {
  std::string name;  ///< "hull-vmm", "qemu", "vsock"
  pid_t pid = -1;
  UniqueFd pidfd;
};

/// A machine that was launched. processes[0] is the machine itself: it ends when the guest powers off, resets or
/// panics, and the others end with it. Nothing is killed by dropping this value; kill() does it.
struct Machine {
  std::vector<MachineProcess> processes;
  std::string log;  ///< file with what the processes wrote to standard error: tell its last lines when one fails

  const MachineProcess& vmm() const { return processes.front(); }
  /// SIGKILL to every process, and waits for all of them.
  void kill();
};

class Hypervisor {
 public:
  virtual ~Hypervisor() = default;
  /// "kvm" or "qemu".
  virtual std::string_view name() const = 0;
  /// For people: "hull-vmm on KVM", "QEMU 7.2 in software emulation".
  virtual std::string describe() const = 0;
  /// Launches the machine and returns as soon as its processes are executed: the guest boots meanwhile, and a machine
  /// that can't start says so by ending (machine_failure()). The processes die with the calling thread
  /// (PR_SET_PDEATHSIG, SIGKILL): call it from the thread that lives as long as the machine, or in a process with one
  /// thread. They are in the caller's namespaces and control group, with default signals, standard input /dev/null,
  /// and no descriptors but those that the configuration names (taps, "/proc/self/fd/N" files).
  /// `run_folder` exists, is 0700 and private to the machine; sockets, descriptors of disks and the log go there.
  virtual Result<Machine> start(const vmm::MachineConfig& config, const std::string& run_folder) = 0;
};

/// Why a machine whose process has ended did so, from its log's last lines and the guest's console: for the message
/// that a user sees. `wait_status` is processes[0]'s.
Error machine_failure(const Machine& machine, int wait_status, const std::string& console_log);

/// The last lines of a file, at most `lines` and 16 KiB, without control characters; "" when there is none.
std::string last_lines(const std::string& path, int lines);

/// Where the programs are; program_folders() finds them beside the running program or through HULL_LIBEXEC.
struct Programs {
  std::string vmm;     ///< hull-vmm
  std::string guest;   ///< hull-guest
  std::string kernel;  ///< hull-kernel
  std::string qemu;    ///< qemu-system-x86_64; "" when it is not installed
};
Programs find_programs();

/// What this machine offers.
struct HostVirtualization {
  bool kvm_device = false;       ///< /dev/kvm is there
  bool kvm_allowed = false;      ///< and may be opened by this user
  bool kvm_pvm = false;          ///< KVM without the processor's help: the module kvm_pvm, which runs no stock kernel
  bool processor_helps = false;  ///< vmx or svm is among the processor's flags
  std::string kvm_error;         ///< why opening /dev/kvm failed
  bool runs_stock_kernels() const { return kvm_allowed && !kvm_pvm; }
};
/// Looks below `root` ("" is this machine; tests give a folder with dev, sys and proc).
HostVirtualization probe_host(const std::string& root = "");

struct Choice {
  std::unique_ptr<Hypervisor> hypervisor;
  /// One sentence for people: why this one ("/dev/kvm is missing: using QEMU's software emulation, which is slower").
  std::string reason;
  bool emulated = false;  ///< no KVM in use: say the reason to the user once a run
};
/// wanted: "auto" (or ""), "kvm", "qemu". kInvalid for another word; kUnsupported, with what to do, when what was asked
/// for (or, with auto, anything) can't serve here.
Result<Choice> choose_hypervisor(std::string_view wanted);
Result<Choice> choose_hypervisor(std::string_view wanted, const HostVirtualization& host, const Programs& programs);

}  // namespace hull::vm
