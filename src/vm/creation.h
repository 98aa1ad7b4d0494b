#pragma once
// Making a machine, from the bundle to a supervisor that has launched it: vm::Runtime::create and run are this and
// little more. The guest boots while the caller goes on.

#include <optional>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "isolation/cgroup.h"
#include "runtime/oci_runtime.h"
#include "runtime/record.h"
#include "vm/machine_plan.h"
#include "vm/terminal.h"

namespace hull::vm {

class Creation {
 public:
  Creation(const runtime::Options& options, const runtime::CreateOptions& create)
      : options_(options), create_(create) {}
  /// What was not given away with release() is undone: supervisor killed, control group and record removed.
  ~Creation();
  Creation(const Creation&) = delete;
  Creation& operator=(const Creation&) = delete;

  /// Returns when the machine was launched, hooks have run and the pid is written.
  Result<void> make();
  /// The container lives on without this object.
  void release() { released_ = true; }

  const oci::Spec& spec() const { return plan_.spec; }
  const runtime::Record& record() const { return record_; }
  int pidfd() const { return pidfd_.get(); }
  /// With process.terminal and no console socket: the side that a user's terminal is joined to.
  int master() const { return pty_ ? pty_->master.get() : -1; }

 private:
  Result<void> check_options() const;
  Result<void> reserve();
  Result<void> plan_cgroup();
  Result<void> make_gate();
  Result<void> open_console();
  Result<void> fork_supervisor();
  Result<void> make_systemd_cgroup();
  Result<void> run_hooks();
  Result<void> announce();
  oci::Resources host_resources() const;

  const runtime::Options& options_;
  const runtime::CreateOptions& create_;
  MachinePlan plan_;
  UniqueFd folder_, record_file_, gate_, creator_, pidfd_, network_namespace_;
  std::optional<isolation::CgroupHost> cgroup_host_;
  std::optional<isolation::Cgroup> cgroup_;
  std::optional<Pty> pty_;
  runtime::Record record_;
  bool reserved_ = false, hooks_ran_ = false, released_ = false;
};

}  // namespace hull::vm
