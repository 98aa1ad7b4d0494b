#pragma once
// The one thing that differs between the two walls: who executes the specification. Everything else of the engine
// (folders, monitor, network, logs, states) is the same for both, and asks the driver that a workload's row names.
//
// What creates and executes is a program in both cases, since the monitor starts it: hull-oci or hull-oci-vm, with the
// same command line. The rest is a call of the runtime library for a container, and of hull-oci-vm for a machine.

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "engine/paths.h"
#include "engine/state.h"

namespace hull::engine {

/// Rows of ps, titles first.
using ProcessTable = std::vector<std::vector<std::string>>;

class IsolationDriver {
 public:
  virtual ~IsolationDriver() = default;

  /// The runtime program and its global options.
  virtual std::vector<std::string> command() const = 0;
  /// Opens the gate of a workload that was created: returns when its program runs, or with what the runtime said.
  /// A machine boots meanwhile.
  virtual Result<void> start(const std::string& id) = 0;
  /// To the workload's first process. `state` says which one on the host stands for it; one that has ended is success.
  virtual Result<void> signal(const std::string& id, const RunState& state, int signal) = 0;
  virtual Result<void> pause(const std::string& id) = 0;
  virtual Result<void> resume(const std::string& id) = 0;
  /// Ends whatever is left of the run and removes the runtime's record and control groups. Nothing there is success.
  virtual Result<void> remove(const std::string& id) = 0;
  /// New limits while it runs; what `resources` does not name stays.
  virtual Result<void> update(const std::string& id, const oci::Resources& resources) = 0;
  /// runc's `events --stats` document, of the host's control groups.
  virtual Result<std::string> stats(const std::string& id) = 0;
  virtual Result<ProcessTable> top(const std::string& id, const std::vector<std::string>& ps_args) = 0;
};

std::unique_ptr<IsolationDriver> make_container_driver(const Settings& settings, const Paths& paths);
std::unique_ptr<IsolationDriver> make_vm_driver(const Settings& settings, const Paths& paths);

/// Sends by pidfd, with the start time checked after it is open, so that a pid used anew is never hit.
Result<void> signal_process(const RunState& state, int signal);
/// The text that ps printed as rows; the last column may hold blanks.
ProcessTable parse_process_table(std::string_view text);

}  // namespace hull::engine
