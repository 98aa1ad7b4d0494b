#pragma once
// The OCI runtime as a library: the commands of hull-oci without their command line (runtime-spec, runtime.md). Every
// container is a folder <root>/<id> that holds its record; nothing stays in memory between calls, so any process may
// use any container. No function here may be called from a program that has more than one thread while it creates or
// executes (create, run, exec clone the calling process); the others may.
//
// A record may be a virtual machine's (vm::Runtime wrote it): state, list, pause, remove and the host's side of the
// questions are the same for both and are answered here; what has to reach inside is refused, with wants_vm().

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"
#include "runtime/oci_runtime.h"

namespace hull::runtime {

class Runtime : public OciRuntime {
 public:
  explicit Runtime(Options options) : options_(std::move(options)) {}
  const Options& options() const { return options_; }

  Result<void> create(const CreateOptions& options) override;
  Result<void> start(const std::string& id) override;
  Result<int> run(const CreateOptions& options) override;
  Result<void> kill(const std::string& id, int signal, bool all = false) override;
  Result<void> remove(const std::string& id, bool force) override;
  Result<ContainerInfo> state(const std::string& id) override;
  Result<std::vector<ContainerInfo>> list() override;
  Result<int> exec(const std::string& id, const ExecOptions& options) override;
  Result<void> pause(const std::string& id) override;
  Result<void> resume(const std::string& id) override;
  Result<void> update(const std::string& id, const oci::Resources& resources) override;
  Result<std::vector<int>> processes(const std::string& id) override;
  Result<std::optional<std::string>> process_table(const std::string& id,
                                                   const std::vector<std::string>& ps_options) override;
  Result<std::string> stats(const std::string& id) override;
  Result<oci::Process> default_process(const std::string& id) override;
  Result<std::string> cgroup_folder(const std::string& id, std::string_view controller) override;
  Result<void> check(const std::string& id) override;
  bool wants_vm() const override { return wants_vm_; }

 private:
  /// Refuses a virtual machine's record or specification.
  Result<void> require_container(bool is_vm, std::string_view what);

  Options options_;
  bool wants_vm_ = false;
};

}  // namespace hull::runtime
