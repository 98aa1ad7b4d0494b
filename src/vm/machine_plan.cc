#include "vm/machine_plan.h"

#include <sys/sysinfo.h>

#include <algorithm>

#include "base/error_format.h"
#include "isolation/process_attributes.h"
#include "runtime/launch_parts.h"
#include "runtime/mount_plan.h"
#include "sys/file.h"
#include "vm/kernel_store.h"
#include "vm/machine_size.h"

namespace hull::vm {
namespace {

/// Sizes of a bundle that nobody wrote a vm.json for: what its limits say.
void size_from_limits(const oci::Spec& spec, VmJson& vm) {
  uint64_t workload = kDefaultWorkloadBytes;
  uint32_t vcpus = std::min<uint32_t>(kDefaultVcpus, static_cast<uint32_t>(::get_nprocs()));
  if (spec.linux_config && spec.linux_config->resources) {
    const oci::Resources& resources = *spec.linux_config->resources;
    if (resources.memory && resources.memory->limit.value_or(0) > 0) {
      workload = static_cast<uint64_t>(*resources.memory->limit);
    }
    if (resources.cpu) {
      constexpr uint64_t kDefaultPeriodUs = 100000;
      const uint64_t period = std::max<uint64_t>(1, resources.cpu->period.value_or(kDefaultPeriodUs));
      if (resources.cpu->quota.value_or(0) > 0) {
        const uint64_t wanted = (static_cast<uint64_t>(*resources.cpu->quota) + period - 1) / period;
        vcpus = static_cast<uint32_t>(std::clamp<uint64_t>(wanted, 1, kMostGuestVcpus));
      }
    }
  }
  vm.memory_bytes = machine_memory(workload);
  vm.vcpus = vcpus;
}

/// The `vm` object of config.json (config-vm.md): kernel, initramfs and parameters of one's own, and which hypervisor.
Result<void> take_vm_object(const oci::VmConfig& wanted, VmJson& vm, vmm::MachineConfig& machine) {
  if (!wanted.hypervisor_parameters.empty()) {
    return errorf(ErrorKind::kUnsupported, "vm.hypervisor.parameters: not taken from a bundle");
  }
  if (!wanted.image_path.empty()) {
    return errorf(ErrorKind::kUnsupported, "vm.image: the root file system is the bundle's root");
  }
  const std::string name = wanted.hypervisor_path.substr(wanted.hypervisor_path.rfind('/') + 1);
  if (name == "hull-vmm") {
    vm.hypervisor = "kvm";
  } else if (name.starts_with("qemu")) {
    vm.hypervisor = "qemu";
  } else if (!name.empty()) {
    return errorf(ErrorKind::kUnsupported, "vm.hypervisor.path: {}: hull-vmm or qemu", wanted.hypervisor_path);
  }
  if (wanted.kernel_path.empty() != wanted.initrd.empty()) {
    return errorf(ErrorKind::kUnsupported,
                  "vm.kernel: path and initrd belong together: the modules in the initrd are the kernel's, and its "
                  "/init has to be hull-guest");
  }
  machine.kernel = wanted.kernel_path;
  machine.initramfs = wanted.initrd;
  machine.command_line = fmt::format("{}", fmt::join(wanted.kernel_parameters, " "));
  return {};
}

Result<void> check_sizes(const VmJson& vm) {
  constexpr uint64_t kLeast = 48ull << 20;
  struct sysinfo host{};
  ::sysinfo(&host);
  const uint64_t installed = static_cast<uint64_t>(host.totalram) * host.mem_unit;
  if (vm.memory_bytes < kLeast) {
    return errorf(ErrorKind::kInvalid, "{} MiB of memory are too little to boot a virtual machine: at least {}",
                  vm.memory_bytes >> 20, kLeast >> 20);
  }
  if (vm.memory_bytes > installed) {
    return errorf(ErrorKind::kInvalid, "{} MiB of memory for a virtual machine: this host has {}",
                  vm.memory_bytes >> 20, installed >> 20);
  }
  return {};
}

}  // namespace

Result<MachinePlan> plan_machine(const std::string& bundle, const std::string& config) {
  MachinePlan plan;
  TRY_ASSIGN(plan.bundle, runtime::absolute_folder(bundle));
  const std::string path = config.starts_with('/') ? config : plan.bundle + "/" + config;
  auto text = sys::read_file(path);
  if (!text.ok()) {
    if (text.error().error_number() != ENOENT) return std::move(text).error();
    return errorf(ErrorKind::kNotFound, "JSON specification file {} not found", path);
  }
  std::map<std::string, std::string> sysctl;
  TRY_ASSIGN(plan.spec, parse_machine_spec(*text, &sysctl));
  if (!plan.spec.process || plan.spec.process->args.empty()) {
    return errorf(ErrorKind::kInvalid, "config.json: process.args names nothing to run");
  }
  if (plan.spec.vm) TRY(take_vm_object(*plan.spec.vm, plan.vm, plan.machine));
  auto beside = sys::read_file(fmt::format("{}/{}", plan.bundle, kVmJsonName), 1 << 20);
  if (beside.ok()) {
    TRY_ASSIGN(plan.vm, parse_vm_json(*beside));
  } else if (beside.error().error_number() == ENOENT) {
    size_from_limits(plan.spec, plan.vm);
  } else {
    return std::move(beside).error();
  }
  TRY(check_sizes(plan.vm));
  plan.shares_root = plan.vm.layers.empty();
  if (plan.shares_root) {
    TRY_ASSIGN(plan.rootfs, runtime::resolve_rootfs(plan.spec, plan.bundle));
  }
  TRY_ASSIGN(plan.parts, plan_spec(plan.spec, plan.bundle, plan.rootfs));
  plan.parts.sysctl = std::move(sysctl);
  TRY_ASSIGN(plan.choice, choose_hypervisor(plan.vm.hypervisor));
  if (plan.machine.kernel.empty()) {
    const KernelStore store(plan.vm.data_root.empty() ? default_data_root() : plan.vm.data_root);
    TRY_ASSIGN(const GuestKernel kernel, store.ready(plan.vm.kernel));
    plan.machine.kernel = kernel.vmlinux;
    plan.machine.initramfs = kernel.initramfs;
  }
  plan.machine.memory_bytes = plan.vm.memory_bytes;
  plan.machine.vcpus = plan.vm.vcpus;
  plan.host_limit = plan.vm.memory_bytes + host_overhead(plan.choice.emulated);
  return plan;
}

}  // namespace hull::vm
