#pragma once
// The OCI runtime through its command line, which is runc's: any runtime that speaks it can take hull-oci's place.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::engine {

class RuntimeCli {
 public:
  RuntimeCli(std::string program, std::string root, bool systemd_cgroup)
      : program_(std::move(program)), root_(std::move(root)), systemd_cgroup_(systemd_cgroup) {}

  /// The program and its global options.
  std::vector<std::string> command() const;

  Result<void> start(const std::string& id) const { return run({"start", id}); }
  /// Kills what still runs and removes it; an unknown id is success.
  Result<void> remove(const std::string& id) const { return run({"delete", "--force", id}); }
  Result<void> pause(const std::string& id) const { return run({"pause", id}); }
  Result<void> resume(const std::string& id) const { return run({"resume", id}); }
  Result<std::vector<int>> processes(const std::string& id) const;
  /// The object of `events --stats`.
  Result<std::string> stats(const std::string& id) const;

 private:
  Result<void> run(std::vector<std::string> arguments) const;
  std::string program_, root_;
  bool systemd_cgroup_;
};

}  // namespace hull::engine
