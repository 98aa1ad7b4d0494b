#pragma once
// What an OCI runtime is asked (runtime-spec, runtime.md), apart from how it is done: runtime::Runtime makes
// containers, vm::Runtime makes virtual machines, and one command line (command/) serves both.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
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
  std::string notify_socket;  ///< NOTIFY_SOCKET: the container may say that it is ready (notify.h)
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
  /// "user[:group]" to be looked up inside, in place of process.user; only where resolves_users(). Empty: process.user.
  std::string user;
};

/// True for an id that may name a container: 1 to 1,024 of [A-Za-z0-9_+.-], not "." or "..".
bool valid_id(std::string_view id);

/// The commands of an OCI runtime: what runtime/command prints and parses for, whoever carries them out.
class OciRuntime {
 public:
  virtual ~OciRuntime() = default;

  /// Makes the container; its first process waits at the gate for start(). kExists when the id is taken. Whatever
  /// fails, nothing stays behind.
  virtual Result<void> create(const CreateOptions& options) = 0;
  /// Opens the gate; returns when the program runs (or could not be executed).
  virtual Result<void> start(const std::string& id) = 0;
  /// create + start + (unless detach) wait + remove. Returns the exit code, 128+signal for a killed process.
  virtual Result<int> run(const CreateOptions& options) = 0;
  /// kNotFound "container does not exist" for an unknown id; kConflict "container not running" for a stopped one.
  virtual Result<void> kill(const std::string& id, int signal, bool all) = 0;
  /// A running container is kConflict unless force, which kills it first. force on an unknown id is success.
  virtual Result<void> remove(const std::string& id, bool force) = 0;
  virtual Result<ContainerInfo> state(const std::string& id) = 0;
  /// Broken records are skipped with a warning.
  virtual Result<std::vector<ContainerInfo>> list() = 0;
  /// Runs another process inside. Returns its exit code, 0 at once when detached.
  virtual Result<int> exec(const std::string& id, const ExecOptions& options) = 0;
  virtual Result<void> pause(const std::string& id) = 0;
  virtual Result<void> resume(const std::string& id) = 0;
  virtual Result<void> update(const std::string& id, const oci::Resources& resources) = 0;
  /// Host pids of every process of the container, ascending.
  virtual Result<std::vector<int>> processes(const std::string& id) = 0;
  /// The table of `ps` with these options of ps(1); nothing: the host's ps shows processes().
  virtual Result<std::optional<std::string>> process_table(const std::string& id,
                                                           const std::vector<std::string>& ps_options) = 0;
  /// runc's `events --stats` document, one line of JSON without newline.
  virtual Result<std::string> stats(const std::string& id) = 0;
  /// The process that config.json of a container names: what exec starts from.
  virtual Result<oci::Process> default_process(const std::string& id) = 0;
  /// Absolute path of the cgroup folder for a file such as "memory.events" (statistics readers), "" when unknown.
  virtual Result<std::string> cgroup_folder(const std::string& id, std::string_view controller) = 0;

  /// exec takes users by name too (ExecOptions::user).
  virtual bool resolves_users() const { return false; }
  /// kNotFound for an unknown id, kUnsupported (and wants_vm()) for one of the other kind.
  virtual Result<void> check(const std::string& id) = 0;
  /// After a failure: the container is a virtual machine, or its config.json asks for one, and hull-oci-vm is the
  /// program for it. Nothing was done.
  virtual bool wants_vm() const { return false; }
};

}  // namespace hull::runtime
