#pragma once
// The engine: what every front end (command line, API) calls. In-process, no daemon: state is on disk, each running
// workload belongs to its monitor, calls take short locks. Safe to use from several processes at once.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "engine/config.h"
#include "engine/events.h"
#include "engine/files.h"
#include "net/network.h"
#include "store/image_store.h"

namespace hull::engine {

using TimePoint = std::chrono::system_clock::time_point;

/// hull.toml, checked. Unknown keys are errors that name key and line.
struct Settings {
  std::string data_root = "/var/lib/hull";
  std::string run_root = "/run/hull";
  std::string libexec;  // where hull-monitor and hull-images are
  std::string runtime;  // path of hull-oci
  std::string cgroup_manager = "cgroupfs";
  std::string cgroup_parent;  // "": hull, or system.slice with systemd
  std::string default_registry = "docker.io";
  std::string bridge_name, bridge_subnet, bridge_subnet6;
  int bridge_mtu = 0;
  std::string log_driver = "json-file";
  int64_t log_max_size = -1;
  int log_max_files = 1;
  std::string journal_socket = "/run/systemd/journal/socket";
  /// Virtual machines (section [vm]): what a workload gets that does not say otherwise.
  std::string vm_runtime;  // path of hull-oci-vm
  int64_t vm_memory = 1 << 30;
  int vm_vcpus = 2;
  std::string vm_hypervisor = "auto";  // auto, kvm, qemu
  std::string vm_kernel;               // name of an installed guest kernel; "": the default one
  /// The file (HULL_CONFIG, else /etc/hull/hull.toml when it exists), then HULL_ROOT, HULL_RUN, HULL_LIBEXEC.
  static Result<Settings> load();
};

/// kRestarting: it ended, and its monitor starts it again after a while (restart policy).
enum class Status { kCreated, kRunning, kPaused, kRestarting, kExited, kDead, kRemoving };
std::string_view to_string(Status status);
/// Runs, or will by itself in a moment: has to be stopped before it can be removed.
constexpr bool is_live(Status status) {
  return status == Status::kRunning || status == Status::kPaused || status == Status::kRestarting;
}

struct PublishedPort {
  std::string host_ip;
  uint16_t host_port = 0, container_port = 0;
  std::string protocol;
};

/// One line of `hull ps`.
struct WorkloadSummary {
  std::string id, name, image;
  Digest image_id;
  std::string command;
  TimePoint created;
  Status status = Status::kCreated;
  std::string status_text;  // "Up 3 minutes", "Exited (0) 2 hours ago"
  std::string health;       // "" without health checks, starting, healthy, unhealthy
  Isolation isolation = Isolation::kContainer;
  std::vector<PublishedPort> ports;
  std::map<std::string, std::string> labels;
  std::vector<std::string> mounts;
  std::string network;
  int pid = 0;
  int exit_code = 0;
};

/// All that `hull inspect` tells. `json` is Docker's inspect document.
struct WorkloadDetails {
  WorkloadSummary summary;
  Config config;
  TimePoint started, finished;
  bool oom_killed = false;
  std::string error;
  std::string log_path, bundle;
  std::string json;
};

struct ListFilter {
  bool all = false;
  int last = 0;                                     // newest n, 0: no limit
  std::multimap<std::string, std::string> filters;  // id name label exited status ancestor volume network ...
};

struct ContainerStats {
  std::string id, name;
  Isolation isolation = Isolation::kContainer;
  uint64_t cpu_total_ns = 0, system_cpu_ns = 0;
  int online_cpus = 0;
  uint64_t memory_used = 0, memory_limit = 0, memory_cache = 0;
  uint64_t net_rx = 0, net_tx = 0, block_read = 0, block_write = 0;
  uint64_t pids = 0, pids_limit = 0;
};

/// What a workload takes of this host at one moment: all its processes, its monitor among them.
struct Footprint {
  int processes = 0, threads = 0;
  uint64_t memory = 0;       // proportional set size: shared pages are divided among those who share them
  uint64_t memory_peak = 0;  // the most that its control group was charged with; 0: unknown
  uint64_t disk = 0;         // bytes on disk of what it has written
};

struct LogOptions {
  bool follow = false, timestamps = false, stdout_lines = true, stderr_lines = true, details = false;
  std::optional<TimePoint> since, until;
  int64_t tail = -1;  // lines, -1: all
};
/// One piece of output: stream 1 or 2, time, bytes (a line with its newline, or a part of one).
using LogSink = std::function<Result<void>(int stream, TimePoint when, std::string_view data)>;

/// The caller's ends of a workload's stdio. Without tty three streams, with tty one (in `input` and `output`).
struct Attachment {
  UniqueFd input;    // write end; invalid when not attached
  UniqueFd output;   // standard output, or the terminal
  UniqueFd error;    // standard error; invalid with a tty
  UniqueFd control;  // to the monitor: resize and detach
};

struct ExitInfo {
  int code = 0;  // 128 + signal when killed
  bool oom_killed = false;
  std::string error;
};

/// A wait that has begun: an end after this moment is not missed, even of a run that begins later.
class PendingWait {
 public:
  virtual ~PendingWait() = default;
  virtual Result<ExitInfo> finish() = 0;
};

/// An attachment to a workload that runs, or to the next run of one that does not.
class PendingAttach {
 public:
  virtual ~PendingAttach() = default;
  /// Readable when take() does not wait; -1: it never does.
  virtual int fd() const = 0;
  virtual Result<Attachment> take() = 0;
};

struct Volume {
  std::string name, driver = "local", mountpoint, scope = "local";
  TimePoint created;
  std::map<std::string, std::string> labels, options;
  int references = 0;
  std::optional<uint64_t> size;
};

struct DiskUsage {
  store::ImageStore::Usage images;
  struct Item {
    std::string id, name, detail;
    uint64_t size = 0;
    bool in_use = false;
  };
  std::vector<Item> workloads, volumes;
};

/// One line of `hull doctor`.
struct Check {
  enum class Verdict { kGood, kNote, kBad };
  Verdict verdict = Verdict::kGood;
  std::string subject, finding, advice;
};

/// Where the microseconds of a run went (`--timings`).
struct Timing {
  std::string step;
  std::chrono::nanoseconds took;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(Settings settings);
  virtual ~Engine() = default;

  virtual const Settings& settings() const = 0;
  virtual store::ImageStore& images() = 0;

  // Workloads. `ref` is an id, a unique prefix of one, or a name.
  struct Created {
    std::string id;
    std::vector<std::string> warnings;
    std::vector<std::string> notices;  // worth a line to the user, nothing is wrong
  };
  /// Resolves the image (pulling it after the policy through hull-images, whose progress goes to standard error),
  /// checks the whole request, writes the workload. Nothing is left behind on failure.
  virtual Result<Created> create(const Config& config, PullPolicy pull) = 0;
  /// Starts a created or stopped workload. With `attach` the caller gets its ends before the first byte is written.
  /// A program that can't be executed is told by error_number() of the Error: ENOENT (exit code 127), or EACCES
  /// (126); exec() does the same.
  virtual Result<std::optional<Attachment>> start(std::string_view ref, bool attach_output, bool attach_input) = 0;
  virtual Result<Attachment> attach(std::string_view ref, bool input) = 0;
  /// The same, and before the start: whoever starts the workload next, in any process, connects the streams before the
  /// first byte is written.
  virtual Result<std::unique_ptr<PendingAttach>> begin_attach(std::string_view ref, bool input) = 0;
  /// Sends the stop signal, waits up to the timeout (negative: for ever; absent: the workload's own), then kills.
  virtual Result<void> stop(std::string_view ref, std::optional<int> timeout_s, std::string_view signal) = 0;
  virtual Result<void> restart(std::string_view ref, std::optional<int> timeout_s, std::string_view signal) = 0;
  virtual Result<void> kill(std::string_view ref, std::string_view signal) = 0;
  virtual Result<void> pause(std::string_view ref) = 0;
  virtual Result<void> unpause(std::string_view ref) = 0;
  virtual Result<void> remove(std::string_view ref, bool force, bool volumes) = 0;
  /// What has to be done after a workload ended: network, run folder, exit record, --rm. Idempotent; the monitor
  /// executes `hull internal cleanup ID` for it when no command that waits has promised to.
  virtual Result<void> cleanup(std::string_view id) = 0;
  /// Starts a workload again whose policy says so. `started_ns` names the run that ended; one that was stopped, removed
  /// or started meanwhile is left alone. Absent: whatever its last run was (its monitor was killed). The monitor
  /// executes `hull internal restart ID STARTED` for it.
  virtual Result<void> restart_after_exit(std::string_view id, std::optional<int64_t> started_ns) = 0;
  /// The monitor's word that the health is another now: tells the event, and does what is to be done about an unhealthy
  /// workload (--health-on-failure).
  virtual Result<void> health_changed(std::string_view id, std::string_view status) = 0;
  struct ServiceStep {
    std::string id, name;
    bool done = false;    // false: left alone, or it failed
    std::string problem;  // why it failed
  };
  using ServiceSink = std::function<void(const ServiceStep& step)>;
  /// What should run after a boot, in the order of their dependencies: policy always, unless-stopped when nobody had
  /// stopped it, on-failure when it ran as the host went down. `pretend` only tells. The number of failures.
  virtual Result<int> start_all(bool pretend, const ServiceSink& sink) = 0;
  /// Stops everything that runs, the other way round; start_all will start it again.
  virtual Result<int> stop_all(std::optional<int> timeout_s, const ServiceSink& sink) = 0;
  virtual Result<void> resize(std::string_view ref, oci::Box size) = 0;
  /// condition: "not-running" (default), "next-exit", "removed".
  virtual Result<ExitInfo> wait(std::string_view ref, std::string_view condition) = 0;
  /// The same, in two steps. "next-exit" and "removed" of a workload that does not run wait for its next run.
  virtual Result<std::unique_ptr<PendingWait>> begin_wait(std::string_view ref, std::string_view condition) = 0;
  virtual Result<std::vector<WorkloadSummary>> list(const ListFilter& filter) = 0;
  /// What list() tells of one workload; cheaper than inspect().
  virtual Result<WorkloadSummary> summary(std::string_view ref) = 0;
  virtual Result<WorkloadDetails> inspect(std::string_view ref) = 0;
  virtual Result<void> logs(std::string_view ref, const LogOptions& options, const LogSink& sink) = 0;
  /// Rows of ps inside the workload: titles first.
  virtual Result<std::vector<std::vector<std::string>>> top(std::string_view ref,
                                                            const std::vector<std::string>& ps_args) = 0;
  virtual Result<ContainerStats> stats(std::string_view ref) = 0;
  /// Of one that has ended, too: without processes then.
  virtual Result<Footprint> footprint(std::string_view ref) = 0;
  virtual Result<store::PruneReport> prune(const std::multimap<std::string, std::string>& filters) = 0;

  // Exec: returns once the process runs; its end comes through `wait_exec`.
  struct ExecHandle {
    std::string id;
    Attachment streams;
    UniqueFd exit_fd;  // readable when the process has ended
    int pid = 0;
  };
  virtual Result<ExecHandle> exec(std::string_view ref, const ExecConfig& config, std::optional<oci::Box> size) = 0;
  virtual Result<ExitInfo> wait_exec(ExecHandle& handle) = 0;
  virtual Result<void> resize_exec(ExecHandle& handle, oci::Box size) = 0;

  // Files. Paths are those inside; links on the way are followed inside, the last name is not (but "x/" and "x/.").
  virtual Result<PathStat> path_stat(std::string_view ref, std::string_view path) = 0;
  /// A tar archive of a file, or of a folder with all below it; `on_stat` is called before the first byte.
  virtual Result<void> archive_get(std::string_view ref, std::string_view path,
                                   const std::function<Result<void>(const PathStat&)>& on_stat,
                                   const ByteTaker& sink) = 0;
  /// Unpacks a tar archive into a folder, which must be there.
  virtual Result<void> archive_put(std::string_view ref, std::string_view path, const PutOptions& options,
                                   const ByteGiver& source) = 0;
  /// Every file but those of volumes and other mounts, as a tar archive.
  virtual Result<void> export_files(std::string_view ref, const ByteTaker& sink) = 0;
  /// What it has written on top of its image.
  virtual Result<std::vector<FileChange>> changes(std::string_view ref) = 0;
  /// Makes an image of it; gives its id ("sha256:...").
  virtual Result<std::string> commit(std::string_view ref, const CommitRequest& request) = 0;
  // Changes to one that exists.
  virtual Result<void> rename(std::string_view ref, std::string_view new_name) = 0;
  /// Gives warnings.
  virtual Result<std::vector<std::string>> update(std::string_view ref, const UpdateRequest& request) = 0;

  // Exec in steps, for clients that come and go: a record on disk, gone with the run. A process of its own keeps what
  // was started, whoever goes away, and writes down how it ended.
  /// kConflict unless the workload runs.
  virtual Result<std::string> exec_create(std::string_view ref, const ExecConfig& config) = 0;
  struct ExecStart {
    bool detach = false;
    std::optional<oci::Box> size;
  };
  struct ExecStreams {
    Attachment streams;  // not with detach; its `control` is readable once the process has ended and is on record
  };
  /// kConflict when it was started before.
  virtual Result<ExecStreams> exec_start(std::string_view exec_id, const ExecStart& how) = 0;
  /// The keeper's whole life, in `hull internal exec-keeper`: starts the process, hands its streams to `client` (a
  /// unix socket; an error goes there too), stays until it has ended.
  virtual void exec_keep(std::string_view exec_id, const ExecStart& how, UniqueFd client) = 0;
  struct ExecState {
    std::string id, workload;
    ExecConfig config;
    bool running = false;
    int pid = 0;
    std::optional<int> exit_code;
  };
  virtual Result<ExecState> exec_inspect(std::string_view exec_id) = 0;
  /// Ids of a workload's execs, of this run.
  virtual Result<std::vector<std::string>> exec_list(std::string_view ref) = 0;
  virtual Result<void> exec_resize(std::string_view exec_id, oci::Box size) = 0;

  // Volumes
  virtual Result<Volume> volume_create(std::string name, std::string driver, std::map<std::string, std::string> options,
                                       std::map<std::string, std::string> labels) = 0;
  virtual Result<std::vector<Volume>> volume_list(const std::multimap<std::string, std::string>& filters) = 0;
  virtual Result<Volume> volume_inspect(std::string_view name) = 0;
  virtual Result<void> volume_remove(std::string_view name, bool force) = 0;
  virtual Result<store::PruneReport> volume_prune(bool all, const std::multimap<std::string, std::string>& filters) = 0;

  // Events
  /// What happened, and happens: see events.h. Returns at `until`, or when stop_fd says so, or with the sink's error.
  virtual Result<void> events(const EventFilter& filter, const EventSink& sink) = 0;
  /// Puts an event on record. Never fails: who is not told of a change has not undone it.
  virtual void emit(const Event& event) = 0;

  // Networks. `ref` is a name, an id, or a unique prefix of an id.
  struct NetworkMember {
    std::string name;  // of the workload
    net::Endpoint endpoint;
  };
  struct NetworkInfo {
    net::Network network;
    std::vector<NetworkMember> members;  // who runs on it now
    std::string json;                    // Docker's inspect document
  };
  /// kExists: the name is taken; kConflict: subnet or device overlap another's. The bridge is there when it returns.
  virtual Result<net::Network> network_create(const net::NetworkRequest& request) = 0;
  /// Those that are always there (bridge, host, none) first. Filters: driver, id, label, name, scope, type
  /// (builtin|custom), dangling.
  virtual Result<std::vector<NetworkInfo>> network_list(const std::multimap<std::string, std::string>& filters) = 0;
  virtual Result<NetworkInfo> network_inspect(std::string_view ref) = 0;
  /// kConflict while workloads run on it, kPermission for those that are always there.
  virtual Result<void> network_remove(std::string_view ref) = 0;
  /// Puts a workload on a network too: at once when it runs, and at each start. `attachment.network` is not read.
  virtual Result<void> network_connect(std::string_view network, std::string_view workload,
                                       const NetworkAttachment& attachment) = 0;
  /// Takes it off. `force`: also a workload that is no more, by what is recorded of it.
  virtual Result<void> network_disconnect(std::string_view network, std::string_view workload, bool force) = 0;
  /// Removes the user's networks that no workload is on or is to be on; their names. Filters: label, label!, until.
  virtual Result<std::vector<std::string>> network_prune(const std::multimap<std::string, std::string>& filters) = 0;

  // The whole
  virtual Result<DiskUsage> disk_usage() = 0;
  virtual Result<store::CheckReport> check(bool deep, bool repair) = 0;
  virtual Result<std::vector<Check>> doctor() = 0;
  /// Docker's /info document, in the parts that apply.
  virtual Result<std::string> info_json() = 0;
  virtual std::vector<Timing> timings() const = 0;
};

}  // namespace hull::engine
