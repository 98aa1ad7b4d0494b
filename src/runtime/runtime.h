#pragma once
// The OCI runtime as a library: the commands of hull-oci without their command line (runtime-spec, runtime.md). Every
// container is a folder <root>/<id> that holds its record; nothing stays in memory between calls, so any process may
// use any container. No function here may be called from a program that has more than one thread while it creates or
// executes (create, run, exec clone the calling process); the others may.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"

namespace hull::runtime {

struct Options {
  std::string root = "/run/hull-oci";  ///< trusted; made 0700 when absent
  bool systemd_cgroup = false;         ///< cgroups through systemd (sd-bus); kUnsupported where it does not run
  std::optional<bool> rootless;        ///< unset: decided by the effective user
};

struct CreateOptions {
  std::string id;
  std::string bundle = ".";
  std::string config = "config.json";  ///< in the bundle, unless absolute
  std::string console_socket;  ///< gets the pseudo-terminal's master; needed with process.terminal when detached
  std::string pidfd_socket;    ///< gets a pidfd of the first process
  std::string pid_file;        ///< host pid as text
  int preserve_fds = 0;        ///< descriptors 3..3+N-1 reach the process
  int listen_fds = 0;          ///< of them (before the preserved ones) by systemd's socket activation
  bool no_pivot = false;
  bool no_new_keyring = false;
  bool keep = false;    ///< run: keep the record after exit
  bool detach = false;  ///< run: return when the process has started
  bool no_subreaper = false;
};

/// What `state` prints and `list` shows.
struct ContainerInfo {
  oci::State state;
  std::string rootfs;
  std::string created;  ///< RFC 3339
  std::string owner;    ///< user name, or #uid
};

struct ExecOptions {
  oci::Process process;
  bool detach = false;
  bool ignore_paused = false;
  std::string console_socket;
  std::string pidfd_socket;
  std::string pid_file;
  int preserve_fds = 0;
  std::vector<std::string> cgroups;  ///< "[controller:]path" below the container's own cgroup
};

/// True for an id that may name a container: 1 to 1,024 of [A-Za-z0-9_+.-], not "." or "..".
bool valid_id(std::string_view id);

class Runtime {
 public:
  explicit Runtime(Options options) : options_(std::move(options)) {}
  const Options& options() const { return options_; }

  /// Makes the container; its first process waits at the gate for start(). kExists when the id is taken. Whatever
  /// fails, nothing stays behind.
  Result<void> create(const CreateOptions& options);
  /// Opens the gate; returns when the program runs (or could not be executed).
  Result<void> start(const std::string& id);
  /// create + start + (unless detach) wait + remove. Returns the exit code, 128+signal for a killed process.
  Result<int> run(const CreateOptions& options);
  /// kNotFound "container does not exist" for an unknown id; kConflict "container not running" for a stopped one.
  Result<void> kill(const std::string& id, int signal, bool all = false);
  /// A running container is kConflict unless force, which kills it first. force on an unknown id is success.
  Result<void> remove(const std::string& id, bool force);
  Result<ContainerInfo> state(const std::string& id);
  /// Broken records are skipped with a warning.
  Result<std::vector<ContainerInfo>> list();
  /// Runs another process inside. Returns its exit code, 0 at once when detached.
  Result<int> exec(const std::string& id, const ExecOptions& options);
  Result<void> pause(const std::string& id);
  Result<void> resume(const std::string& id);
  Result<void> update(const std::string& id, const oci::Resources& resources);
  /// Host pids of every process inside, ascending.
  Result<std::vector<int>> processes(const std::string& id);
  /// runc's `events --stats` document, one line of JSON without newline.
  Result<std::string> stats(const std::string& id);
  /// The process that config.json of a container names: what exec starts from.
  Result<oci::Process> default_process(const std::string& id);
  /// Absolute path of the cgroup folder for a file such as "memory.events" (statistics readers), "" when unknown.
  Result<std::string> cgroup_folder(const std::string& id, std::string_view controller);

 private:
  Options options_;
};

}  // namespace hull::runtime
