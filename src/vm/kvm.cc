#include "vm/kvm.h"

#include <fcntl.h>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/machine_files.h"
#include "vm/spawn.h"

namespace hull::vm {

Result<Machine> KvmHypervisor::start(const vmm::MachineConfig& config, const std::string& run_folder) {
  TRY(check_machine(config));
  Machine machine;
  machine.log = run_folder + "/vmm.log";
  TRY_ASSIGN(const UniqueFd log, sys::open(machine.log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  // A memfd: the description may name descriptors and is nobody else's to read or change.
  TRY_ASSIGN(const UniqueFd description, sys::sealed_memfd("hull-vmm.json", vmm::to_json(config)));
  ProcessRequest request;
  request.argv = {program_, "--config", fmt::format("/proc/self/fd/{}", description.get())};
  request.keep_fds = inherited_fds(config);
  request.keep_fds.push_back(description.get());
  request.stderr_fd = log.get();
  request.stdout_fd = config.console_log == "-" ? 1 : log.get();
  auto started = start_process(request);
  if (!started.ok()) return std::move(started.error()).context("virtual machine");
  machine.processes.push_back({"hull-vmm", started->pid, std::move(started->pidfd)});
  return machine;
}

}  // namespace hull::vm
