#include "engine/doctor_vm.h"

#include <unistd.h>

#include "base/error_format.h"
#include "vm/kernel_store.h"

namespace hull::engine {
namespace {

using Verdict = Check::Verdict;

constexpr const char* kFileDaemon = "/usr/lib/qemu/virtiofsd";

/// What would make KVM serve; "" when it does.
std::string kvm_advice(const vm::HostVirtualization& host) {
  if (host.runs_stock_kernels()) return {};
  if (!host.kvm_device) {
    return host.processor_helps
               ? "load the module: modprobe kvm_intel, or modprobe kvm_amd"
               : "turn virtualization (VT-x, AMD-V) on in the firmware; when this machine is itself a virtual one, its "
                 "host has to allow nested virtualization. Until then emulation works, several times slower";
  }
  if (!host.kvm_allowed) return "run hull as root, or give this user the group kvm";
  return "this machine's host has to allow nested virtualization; a guest kernel that knows kvm_pvm can be tried with "
         "--hypervisor kvm. Emulation works, several times slower";
}

Check hypervisor_line(const vm::HostVirtualization& host, const vm::Programs& programs) {
  const auto choice = vm::choose_hypervisor("auto", host, programs);
  if (!choice.ok()) return {Verdict::kNote, "virtual machines", choice.error().message(), kvm_advice(host)};
  return {choice->emulated ? Verdict::kNote : Verdict::kGood, "virtual machines", choice->reason, kvm_advice(host)};
}

Check kernel_line(const std::string& data_root) {
  const auto kernel = vm::KernelStore(data_root).find("");
  if (kernel.ok()) {
    return {Verdict::kGood, "guest kernel", fmt::format("{}, from {}", kernel->name, kernel->source), {}};
  }
  const bool none = kernel.error().kind() == ErrorKind::kNotFound;
  return {Verdict::kNote, "guest kernel", none ? "none is installed" : kernel.error().message(),
          none ? "'hull vm kernel install' gets Debian's; only virtual machines need it" : ""};
}

Check programs_line(const vm::Programs& programs) {
  std::string missing;
  for (const std::string& path : {programs.vmm, programs.guest, programs.kernel}) {
    if (::access(path.c_str(), X_OK) != 0) missing += (missing.empty() ? "" : ", ") + path;
  }
  if (!missing.empty()) {
    return {Verdict::kNote, "virtual machine programs", "missing: " + missing,
            "install Hull again, or set HULL_LIBEXEC"};
  }
  if (::access(kFileDaemon, X_OK) != 0) {
    return {Verdict::kNote, "virtual machine programs", fmt::format("{} is missing", kFileDaemon),
            "volumes of virtual machines need it: install the package qemu-system-common"};
  }
  return {Verdict::kGood, "virtual machine programs", "there", {}};
}

}  // namespace

std::vector<Check> check_virtual_machines(const std::string& data_root, const vm::HostVirtualization& host,
                                          const vm::Programs& programs) {
  return {hypervisor_line(host, programs), kernel_line(data_root), programs_line(programs)};
}

}  // namespace hull::engine
