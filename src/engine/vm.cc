// What a workload behind the second wall has beside its specification: a writable disk, and vm.json.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/vm_size.h"
#include "sys/file.h"
#include "vm/hypervisor.h"
#include "vm/kernel_store.h"
#include "vm/scratch_disk.h"
#include "vm/vm_json.h"

namespace hull::engine {

/// Before anything is pulled or written: is there something to run a machine with?
Result<void> EngineImpl::check_vm_host(const Config& config, std::vector<std::string>* notices) {
  if (::access(settings_.vm_runtime.c_str(), X_OK) != 0) {
    return errorf(ErrorKind::kUnsupported, "{} is missing: install Hull's part for virtual machines",
                  settings_.vm_runtime);
  }
  TRY_ASSIGN(const vm::Choice choice,
             vm::choose_hypervisor(config.hypervisor.empty() ? settings_.vm_hypervisor : config.hypervisor));
  // Who asked for it by name knows.
  if (choice.emulated && config.hypervisor != "qemu") notices->push_back(choice.reason);
  TRY_ASSIGN([[maybe_unused]] const vm::GuestKernel kernel,
             vm::KernelStore(settings_.data_root).find(settings_.vm_kernel));
  TRY_ASSIGN([[maybe_unused]] const VmSize size, vm_size(config, settings_, host_memory(), host_cpus()));
  return {};
}

Result<void> EngineImpl::make_vm_files(const WorkloadRow& row, const Config& config, const store::Image& image) {
  TRY_ASSIGN([[maybe_unused]] const std::vector<std::string> blobs, images_->layer_blobs(image));
  TRY_ASSIGN(const uint64_t bytes, scratch_size(config));
  return vm::make_scratch_disk(paths_.scratch_disk(row.id), bytes, paths_.scratch_templates());
}

Result<void> EngineImpl::write_vm_json(const WorkloadRow& row, const Config& config, const store::Image& image) {
  vm::VmJson document;
  TRY_ASSIGN(document.layers, images_->layer_blobs(image));
  TRY_ASSIGN(const VmSize size, vm_size(config, settings_, host_memory(), host_cpus()));
  document.scratch = paths_.scratch_disk(row.id);
  document.memory_bytes = size.memory_bytes;
  document.vcpus = size.vcpus;
  const size_t networks = attachments(config).size();
  if (networks > vm::kMostNics) {
    return errorf(ErrorKind::kUnsupported, "{} networks: a virtual machine can be on {}", networks, vm::kMostNics);
  }
  document.nics = static_cast<uint32_t>(std::max<size_t>(1, networks));
  document.hypervisor = config.hypervisor.empty() ? settings_.vm_hypervisor : config.hypervisor;
  document.data_root = settings_.data_root;
  document.kernel = settings_.vm_kernel;
  document.console_log = paths_.console_log(row.id);
  document.oom_file = paths_.oom_file(row.id);
  document.resolve_user = true;
  document.groups_add = config.groups_add;
  TRY_ASSIGN([[maybe_unused]] const UniqueFd oom,
             sys::open(document.oom_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  const std::string path = paths_.workload(row.id) + "/" + std::string(vm::kVmJsonName);
  TRY_ASSIGN(const UniqueFd file, sys::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  return sys::write_all(file.get(), vm::to_json(document)).context("write the bundle");
}

bool EngineImpl::has_files(const WorkloadRow& row) const {
  return sys::exists(row.isolation == Isolation::kVm ? paths_.scratch_disk(row.id)
                                                     : paths_.workload(row.id) + "/upper");
}

uint64_t EngineImpl::written_size(std::string_view id, Isolation isolation) const {
  if (isolation == Isolation::kContainer) return tree_size(paths_.workload(id) + "/upper");
  struct stat info{};
  if (::stat(paths_.scratch_disk(id).c_str(), &info) != 0) return 0;
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

}  // namespace hull::engine
