#pragma once
// The OCI runtime whose containers are virtual machines: hull-oci-vm's commands. A container's record is as
// runtime::Runtime's, with the member `vm`; its pid is the supervisor's (supervisor.h). To be called from a program
// with one thread.

#include "runtime/oci_runtime.h"
#include "runtime/record.h"
#include "runtime/runtime.h"
#include "vm/remote_process.h"

namespace hull::vm {

class Runtime : public runtime::OciRuntime {
 public:
  explicit Runtime(runtime::Options options) : options_(options), host_(std::move(options)) {}

  Result<void> create(const runtime::CreateOptions& options) override;
  Result<void> start(const std::string& id) override;
  Result<int> run(const runtime::CreateOptions& options) override;
  /// Through the agent. SIGKILL also reaches a guest that is dead or hangs: then the machine is ended.
  Result<void> kill(const std::string& id, int signal, bool all) override;
  Result<int> exec(const std::string& id, const runtime::ExecOptions& options) override;
  Result<void> resume(const std::string& id) override;
  /// Limits of the machine on the host and of the workload in the guest. kUnsupported for more memory than the machine
  /// has.
  Result<void> update(const std::string& id, const oci::Resources& resources) override;
  /// Of the guest: -ef, aux, -o with a list of columns.
  Result<std::optional<std::string>> process_table(const std::string& id,
                                                   const std::vector<std::string>& ps_options) override;
  /// The host's control group, as for a container, and beside it what the guest says ("guest").
  Result<std::string> stats(const std::string& id) override;
  Result<void> check(const std::string& id) override;
  bool resolves_users() const override { return true; }

  // What is the same for both.
  Result<void> remove(const std::string& id, bool force) override { return host_.remove(id, force); }
  Result<runtime::ContainerInfo> state(const std::string& id) override { return host_.state(id); }
  Result<std::vector<runtime::ContainerInfo>> list() override { return host_.list(); }
  Result<void> pause(const std::string& id) override { return host_.pause(id); }
  Result<std::vector<int>> processes(const std::string& id) override { return host_.processes(id); }
  Result<oci::Process> default_process(const std::string& id) override { return host_.default_process(id); }
  Result<std::string> cgroup_folder(const std::string& id, std::string_view controller) override {
    return host_.cgroup_folder(id, controller);
  }

 private:
  runtime::Options options_;
  runtime::Runtime host_;
};

/// A machine's record, opened.
struct OpenedMachine {
  UniqueFd folder;
  runtime::Record record;
  runtime::Status status = runtime::Status::kStopped;
  std::string vsock;  ///< socket of the machine
  Patience patience;
};
Result<OpenedMachine> open_machine(const std::string& root, const std::string& id);
/// One more process inside (exec.cc).
Result<int> execute(const OpenedMachine& machine, const runtime::ExecOptions& options);

}  // namespace hull::vm
