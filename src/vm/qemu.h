#pragma once
// The back end that runs QEMU's microvm machine: in software emulation where KVM can't serve, or on KVM on demand. The
// devices are the same virtio-mmio ones that hull-vmm has, vsock is hull-vmm's own through vhost-user.

#include <string>
#include <vector>

#include "vm/hypervisor.h"

namespace hull::vm {

class QemuHypervisor : public Hypervisor {
 public:
  /// `program` is qemu-system-x86_64, `vmm` hull-vmm (for vsock). `use_kvm`: -accel kvm.
  QemuHypervisor(std::string program, std::string vmm, bool use_kvm)
      : program_(std::move(program)), vmm_(std::move(vmm)), use_kvm_(use_kvm) {}
  std::string_view name() const override { return "qemu"; }
  std::string describe() const override { return use_kvm_ ? "QEMU on KVM" : "QEMU in software emulation"; }
  Result<Machine> start(const vmm::MachineConfig& config, const std::string& run_folder) override;

 private:
  std::string program_, vmm_;
  bool use_kvm_;
};

/// What QEMU is started with.
struct QemuPlan {
  bool use_kvm = false;
  std::string run_folder;  ///< for the descriptors of disks with several extents
  int vsock_fd = -1;       ///< connected to the vhost-user back end; -1 without vsock
  uint32_t tsc_khz = 0;    ///< of this machine's time stamp counter, which emulation hands through; 0: unknown
};
/// The arguments after the program's name. kUnsupported for what QEMU's microvm can't have (more than 24 devices,
/// persistent memory, a limit on a network device, the control API). Writes the descriptors of disks.
Result<std::vector<std::string>> qemu_arguments(const vmm::MachineConfig& config, const QemuPlan& plan);

/// A value inside one of QEMU's comma-separated options.
std::string qemu_escape(std::string_view value);

/// Ticks of the time stamp counter in a millisecond, measured for a millisecond; 0 when it does not tick evenly.
uint32_t measure_tsc_khz();

}  // namespace hull::vm
