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
#include "vm/vm_json.h"

namespace hull::engine {

/// Before anything is pulled or written: is there something to run a machine with?
Result<void> EngineImpl::check_vm_host(const Config& config, std::vector<std::string>* notices) {
  static_cast<void>(notices);
  TRY_ASSIGN([[maybe_unused]] const VmSize size, vm_size(config, settings_, host_memory(), host_cpus()));
  return errorf(ErrorKind::kUnsupported,
                "--vm: virtual machines come with a later version of Hull; leave the flag out to run a container");
}

Result<void> EngineImpl::make_vm_files(const WorkloadRow& row, const Config& config, const store::Image& image) {
  TRY_ASSIGN([[maybe_unused]] const std::vector<std::string> blobs, images_->layer_blobs(image));
  TRY_ASSIGN(const uint64_t bytes, scratch_size(config));
  TRY_ASSIGN(const UniqueFd disk, sys::open(paths_.scratch_disk(row.id), O_WRONLY | O_CREAT | O_EXCL, 0600));
  if (::ftruncate(disk.get(), static_cast<off_t>(bytes)) != 0) return errnof("size {}", paths_.scratch_disk(row.id));
  return {};
}

Result<void> EngineImpl::write_vm_json(const WorkloadRow& row, const Config& config, const store::Image& image) {
  vm::VmJson document;
  TRY_ASSIGN(document.layers, images_->layer_blobs(image));
  TRY_ASSIGN(const VmSize size, vm_size(config, settings_, host_memory(), host_cpus()));
  document.scratch = paths_.scratch_disk(row.id);
  document.memory_bytes = size.memory_bytes;
  document.vcpus = size.vcpus;
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
