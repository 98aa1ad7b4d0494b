#pragma once
// The back end that runs hull-vmm on KVM.

#include <string>

#include "vm/hypervisor.h"

namespace hull::vm {

class KvmHypervisor : public Hypervisor {
 public:
  /// `program` is hull-vmm.
  explicit KvmHypervisor(std::string program) : program_(std::move(program)) {}
  std::string_view name() const override { return "kvm"; }
  std::string describe() const override { return "hull-vmm on KVM"; }
  Result<Machine> start(const vmm::MachineConfig& config, const std::string& run_folder) override;

 private:
  std::string program_;
};

}  // namespace hull::vm
