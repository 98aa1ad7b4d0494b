#pragma once
// Making a container, from config.json to a first process that waits at the gate. Runtime::create and run are this
// and little more.

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "isolation/cgroup.h"
#include "isolation/seccomp.h"
#include "oci/runtime_spec.h"
#include "runtime/arena.h"
#include "runtime/channel.h"
#include "runtime/messages.h"
#include "runtime/record.h"
#include "runtime/runtime.h"
#include "runtime/user_namespace.h"

namespace hull::runtime {

class Launch {
 public:
  Launch(const Options& options, const CreateOptions& create) : options_(options), create_(create) {}
  /// What was not given away with release() is undone: process killed, cgroup and record removed.
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  /// Up to the gate. `gate` tells what opens it; `console` is where the terminal goes (-1: none).
  Result<void> make(child::Gate gate, int console);
  /// Lets a first process behind a socket gate run; returns when it was executed.
  Result<void> go();
  /// For a run that nobody has to be told about before it ends (no hooks, terminal or listener): the gate is opened
  /// beforehand, so that make() waits for nothing, and what failed, if anything, is read after the process has ended.
  bool is_quiet() const { return quiet_; }
  Result<void> failure();
  /// The container lives on without this object.
  void release() { released_ = true; }

  const oci::Spec& spec() const { return spec_; }
  const Record& record() const { return record_; }
  int folder() const { return folder_.get(); }
  pid_t pid() const { return record_.pid; }
  int pidfd() const { return pidfd_.get(); }
  std::optional<isolation::Cgroup>& cgroup() { return cgroup_; }

  /// Reads config.json and checks it. make() does this when it was not done.
  Result<void> load();

 private:
  Result<void> reserve();
  Result<void> plan(child::Gate gate, int console);
  Result<void> plan_namespaces();
  Result<void> plan_system();
  Result<void> plan_cgroup();
  Result<void> compile_filter();
  Result<void> make_record();
  Result<void> make_cgroup();
  Result<void> make_gate();
  Result<void> clone_child();
  Result<void> take_stage();
  Result<void> set_from_outside();
  Result<void> follow_to_gate();
  Result<void> run_setup_hooks();
  Result<void> run_pivot_hooks();
  Result<void> announce();
  MessageContext messages() const { return {&spec_, spec_.process ? &*spec_.process : nullptr, &plan_}; }

  const Options& options_;
  const CreateOptions& create_;
  std::string bundle_;
  oci::Spec spec_;
  bool loaded_ = false;
  UniqueFd folder_;
  bool reserved_ = false;
  Record record_;
  UniqueFd record_file_;
  Arena arena_;
  std::vector<UniqueFd> fds_;  // what the plan names; closed after the clone
  child::ContainerPlan plan_;
  isolation::SeccompFilter filter_;
  std::optional<isolation::CgroupHost> cgroup_host_;
  std::optional<isolation::Cgroup> cgroup_;
  IdMaps maps_;
  bool new_user_namespace_ = false;
  bool joined_user_namespace_ = false;
  uint64_t clone_flags_ = 0;
  int cgroup_fd_ = -1;
  UniqueFd pid_namespace_;  // to be joined by the parent
  UniqueFd child_end_;
  Channel channel_;
  UniqueFd pidfd_;
  bool hooks_ran_ = false;
  bool released_ = false;
  bool quiet_ = false;
};

/// The bundle's config.json, parsed and validated.
Result<oci::Spec> load_spec(const std::string& bundle, const std::string& config);
/// The host's /proc, verified: a proc file system at its root.
Result<UniqueFd> open_proc();
/// Writes text to a pid file as runc does: complete or absent.
Result<void> write_pid_file(const std::string& path, pid_t pid);
/// After the first process has ended: cgroup, record, poststop hooks.
Result<void> remove_stopped(Launch& launch, const Options& options);
/// Where compiled filters are cached.
std::string filter_cache(const Options& options);

}  // namespace hull::runtime
