#pragma once
// The engine's one implementation; its methods are spread over files by topic (create.cc, start.cc, ...).

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/change.h"
#include "engine/dependencies.h"
#include "engine/engine.h"
#include "engine/index.h"
#include "engine/isolation.h"
#include "engine/log_config.h"
#include "engine/monitor_client.h"
#include "engine/paths.h"
#include "engine/spec.h"
#include "engine/state.h"
#include "engine/vm_files.h"
#include "engine/workload_files.h"
#include "net/hostfiles.h"
#include "net/names.h"
#include "net/network.h"

namespace hull::engine {

class EngineImpl : public Engine {
 public:
  /// With a given image store, for tests; Engine::open opens the real one.
  EngineImpl(Settings settings, std::unique_ptr<store::ImageStore> images);
  ~EngineImpl() override = default;
  /// Asks a new hull-rootless for the published ports that the killed one had.
  Result<void> publish_again();

  const Settings& settings() const override { return settings_; }
  store::ImageStore& images() override { return *images_; }

  Result<Created> create(const Config& config, PullPolicy pull) override;
  Result<std::optional<Attachment>> start(std::string_view ref, bool attach_output, bool attach_input) override;
  Result<Attachment> attach(std::string_view ref, bool input) override;
  Result<std::unique_ptr<PendingAttach>> begin_attach(std::string_view ref, bool input) override;
  Result<void> stop(std::string_view ref, std::optional<int> timeout_s, std::string_view signal) override;
  Result<void> restart(std::string_view ref, std::optional<int> timeout_s, std::string_view signal) override;
  Result<void> kill(std::string_view ref, std::string_view signal) override;
  Result<void> pause(std::string_view ref) override;
  Result<void> unpause(std::string_view ref) override;
  Result<void> remove(std::string_view ref, bool force, bool volumes) override;
  Result<void> cleanup(std::string_view id) override;
  Result<void> restart_after_exit(std::string_view id, std::optional<int64_t> started_ns) override;
  Result<void> health_changed(std::string_view id, std::string_view status) override;
  Result<int> start_all(bool pretend, const ServiceSink& sink) override;
  Result<int> stop_all(std::optional<int> timeout_s, const ServiceSink& sink) override;
  Result<void> resize(std::string_view ref, oci::Box size) override;
  Result<ExitInfo> wait(std::string_view ref, std::string_view condition) override;
  Result<std::unique_ptr<PendingWait>> begin_wait(std::string_view ref, std::string_view condition) override;
  Result<std::vector<WorkloadSummary>> list(const ListFilter& filter) override;
  Result<WorkloadSummary> summary(std::string_view ref) override;
  Result<WorkloadDetails> inspect(std::string_view ref) override;
  Result<void> logs(std::string_view ref, const LogOptions& options, const LogSink& sink) override;
  Result<std::vector<std::vector<std::string>>> top(std::string_view ref,
                                                    const std::vector<std::string>& ps_args) override;
  Result<ContainerStats> stats(std::string_view ref) override;
  Result<Footprint> footprint(std::string_view ref) override;
  Result<store::PruneReport> prune(const std::multimap<std::string, std::string>& filters) override;
  Result<ExecHandle> exec(std::string_view ref, const ExecConfig& config, std::optional<oci::Box> size) override;
  Result<ExitInfo> wait_exec(ExecHandle& handle) override;
  Result<void> resize_exec(ExecHandle& handle, oci::Box size) override;
  Result<std::string> exec_create(std::string_view ref, const ExecConfig& config) override;
  Result<ExecStreams> exec_start(std::string_view exec_id, const ExecStart& how) override;
  void exec_keep(std::string_view exec_id, const ExecStart& how, UniqueFd client) override;
  Result<ExecState> exec_inspect(std::string_view exec_id) override;
  Result<std::vector<std::string>> exec_list(std::string_view ref) override;
  Result<void> exec_resize(std::string_view exec_id, oci::Box size) override;
  Result<Volume> volume_create(std::string name, std::string driver, std::map<std::string, std::string> options,
                               std::map<std::string, std::string> labels) override;
  Result<std::vector<Volume>> volume_list(const std::multimap<std::string, std::string>& filters) override;
  Result<Volume> volume_inspect(std::string_view name) override;
  Result<void> volume_remove(std::string_view name, bool force) override;
  Result<store::PruneReport> volume_prune(bool all, const std::multimap<std::string, std::string>& filters) override;
  Result<PathStat> path_stat(std::string_view ref, std::string_view path) override;
  Result<void> archive_get(std::string_view ref, std::string_view path,
                           const std::function<Result<void>(const PathStat&)>& on_stat, const ByteTaker& sink) override;
  Result<void> archive_put(std::string_view ref, std::string_view path, const PutOptions& options,
                           const ByteGiver& source) override;
  Result<void> export_files(std::string_view ref, const ByteTaker& sink) override;
  Result<std::vector<FileChange>> changes(std::string_view ref) override;
  Result<std::string> commit(std::string_view ref, const CommitRequest& request) override;
  Result<void> rename(std::string_view ref, std::string_view new_name) override;
  Result<std::vector<std::string>> update(std::string_view ref, const UpdateRequest& request) override;
  Result<void> events(const EventFilter& filter, const EventSink& sink) override;
  void emit(const Event& event) override;

  Result<net::Network> network_create(const net::NetworkRequest& request) override;
  Result<std::vector<NetworkInfo>> network_list(const std::multimap<std::string, std::string>& filters) override;
  Result<NetworkInfo> network_inspect(std::string_view ref) override;
  Result<void> network_remove(std::string_view ref) override;
  Result<void> network_connect(std::string_view network, std::string_view workload,
                               const NetworkAttachment& attachment) override;
  Result<void> network_disconnect(std::string_view network, std::string_view workload, bool force) override;
  Result<std::vector<std::string>> network_prune(const std::multimap<std::string, std::string>& filters) override;
  Result<DiskUsage> disk_usage() override;
  Result<store::CheckReport> check(bool deep, bool repair) override;
  Result<std::vector<Check>> doctor() override;
  Result<std::string> info_json() override;
  std::vector<Timing> timings() const override { return timings_; }

 private:
  /// Opens the index and finishes what killed commands left half done.
  Result<Index*> index();
  Result<net::NetworkManager*> network();
  IsolationDriver& driver(Isolation isolation) const {
    return isolation == Isolation::kVm ? *vm_driver_ : *container_driver_;
  }
  void mark(std::string step);
  void reset_clock() { last_mark_ = std::chrono::steady_clock::now(); }

  // emit.cc
  /// An event of a workload, with its labels, image and name, and what `extra` says.
  void emit_workload(const WorkloadRow& row, std::string action, std::map<std::string, std::string> extra = {});
  void emit_volume(const std::string& name, std::string action, std::map<std::string, std::string> extra = {});
  /// A workload's volumes as they are mounted ("mount") and let go ("unmount").
  void emit_mounts(const WorkloadRow& row, const Config& config);
  void emit_unmounts(const WorkloadRow& row);
  /// die, and oom before it.
  void emit_end(const WorkloadRow& row, const ExitRecord& record);

  // create.cc
  Result<store::Image> resolve_image(const Config& config, PullPolicy pull);
  Result<void> pull_image(const std::string& reference, const Config& config);
  Result<std::string> choose_name(Index& index, const Config& config);
  Result<void> resolve_volumes(const Change& change, Index& index, Config* merged, std::vector<std::string>* volumes,
                               std::vector<std::string>* anonymous);
  Result<void> copy_up(const std::string& volume, const std::string& target, const std::vector<std::string>& lower);

  // pending.cc
  class RunWait;
  class RemovedWatch;

  // start.cc
  struct Prepared {
    SpecInput spec;
    std::vector<UniqueFd> held;             // for the monitor: published ports; first what keeps the rules
    std::vector<UniqueFd> spec_files;       // descriptors that the specification names through /proc/PID/fd
    bool own_network = false;               // to be attached to networks
    std::vector<std::string> name_servers;  // of resolv.conf, on networks of the user's
    bool private_network = false;           // needs its loopback brought up
  };
  Result<std::optional<Attachment>> start_locked(const Change& change, const WorkloadRow& row, bool attach_output,
                                                 bool attach_input, const std::optional<RestartRecord>& again = {});
  Result<void> prepare_namespaces(const WorkloadRow& row, const Config& config, Prepared* prepared);
  Result<void> prepare_network_files(const WorkloadRow& row, const Config& config, Prepared* prepared);
  Result<void> prepare_root(const WorkloadRow& row, const Config& config, const store::Image& image,
                            Prepared* prepared);
  Result<void> prepare_mounts(const WorkloadRow& row, const Config& config, Prepared* prepared);
  Result<int> running_pid(std::string_view ref, std::string_view what);
  MonitorRequest monitor_request(const WorkloadRow& row, const Config& config, bool attach_input) const;
  void abandon_run(const WorkloadRow& row);
  Result<void> remove_run_folder(const std::string& id);

  // networks.cc
  /// Checks that the networks asked for are there, and gives them their names.
  Result<void> resolve_networks(Config* config);
  Result<NetworkInfo> network_info(const net::Network& network);
  void emit_network(const net::Endpoint& endpoint, std::string action);

  // network_files.cc, attach.cc
  /// Takes addresses and ports; whether there is IPv6.
  Result<bool> reserve_networks(const WorkloadRow& row, const Config& config, net::HostsRequest* hosts,
                                Prepared* prepared);
  /// Interfaces and names of a workload that is about to run, or that runs and got another network.
  /// `keeper`: the monitor, when it was started with what the networks gave it to hold.
  Result<void> attach_networks(const WorkloadRow& row, const Config& config, int netns_fd, int pid,
                               const net::Keeper& keeper = {});
  /// Everything of its networks after its end.
  Result<void> detach_networks(const WorkloadRow& row);
  Result<void> announce(const WorkloadRow& row, const Config& config, const net::Endpoint& endpoint, int pid);
  Result<bool> is_attached(std::string_view workload_id, std::string_view network_id);
  /// The names of one that was renamed.
  Result<void> announce_again(const WorkloadRow& row);
  net::DnsPlace dns_place() const;
  Result<void> connect_running(const WorkloadRow& row, const Config& config, const NetworkAttachment& wanted, int pid);
  Result<void> disconnect_running(const WorkloadRow& row, const net::Network& network, int pid);
  /// --link: lines of the hosts file, and on the default bridge variables of the environment.
  Result<std::string> link_hosts(const WorkloadRow& row, const Config& config);
  Result<void> add_link_environment(const WorkloadRow& row, Config* config);

  // stop.cc
  Result<void> cleanup_locked(const Change& change, const WorkloadRow& row);
  Result<void> remove_locked(const Change& change, const WorkloadRow& row, bool volumes);
  Result<void> end_run(const WorkloadRow& row, const std::optional<int>& grace_s, int signal, bool for_good,
                       bool* removed);
  Result<void> end_process(const WorkloadRow& row, const RunState& state, const std::optional<int>& grace_s,
                           int signal);
  Result<void> stop_run(const WorkloadRow& row, std::optional<int> timeout_s, std::string_view signal, bool for_good);
  static Result<Config> config_of(Index& index, std::string_view id);
  Result<ExitInfo> finish_wait(const WorkloadRow& row, std::optional<ExitRecord> record, int control);

  // services.cc
  /// What the monitor has to know: policy, health check, log.
  Result<void> add_service_options(const WorkloadRow& row, const Config& config, const oci::Spec& spec,
                                   const std::optional<RestartRecord>& again, std::vector<std::string>* args) const;
  /// The last health record outlives the run.
  void keep_health(const std::string& id) const;
  /// After the clean-up of a run whose monitor was killed: has it started again, when its policy says so.
  void revive(const WorkloadRow& row, const RunState& lost);
  Result<void> add_log_options(const WorkloadRow& row, const Config& config, std::vector<std::string>* args) const;
  Result<void> restart_failed(const WorkloadRow& row, const Error& error);
  struct Service {
    WorkloadRow row;
    Config config;
    std::vector<DependencyWait> waits;
  };
  /// All workloads, each after those that it needs.
  Result<std::vector<Service>> services();
  bool should_run(const WorkloadRow& row, const Config& config, const RunState& state) const;
  LogDefaults log_defaults() const { return {settings_.log_driver, settings_.log_max_size, settings_.log_max_files}; }
  std::string log_path(const std::string& id, LogDriver driver) const;

  // repair.cc
  void sweep_changes(Index& index);
  /// Control groups that a killed runtime made and did not put on record, with whatever is in them.
  void remove_stray_cgroups(Index& index, const std::string& id);
  Result<bool> end_cut_start(const WorkloadRow& row);
  Result<void> repair_locked(const Change& change, Index& index);
  /// The state of a workload; one whose monitor was killed is cleaned up first.
  Result<RunState> settled_state(const WorkloadRow& row);
  Result<WorkloadRow> find(std::string_view ref);

  // volumes.cc
  Result<VolumeRow> make_volume(Index& index, VolumeRow row, const std::map<std::string, std::string>& options);
  Result<std::string> volume_path(const std::string& name) const;
  Result<Volume> volume_of(const VolumeRow& row, bool with_size) const;
  Result<void> delete_volume(Index& index, const std::string& name);

  // workload_files.cc
  Result<WorkloadFiles> open_files(const WorkloadRow& row);
  Result<WorkloadFiles> stopped_files(const WorkloadRow& row, Change change);
  Result<std::optional<sys::Root>> running_root(const std::string& id);
  Result<void> mount_volumes(const sys::Root& root, const Config& config);
  /// The folders of the image's layers, uppermost first; never empty.
  Result<std::vector<std::string>> layers_of(const WorkloadRow& row);
  // archive.cc
  Result<void> pack_all(const WorkloadRow& row, const ByteTaker& sink);
  Result<MachineFiles> machine_files(const WorkloadRow& row);
  /// As the configuration says it.
  Result<std::string> user_of(const WorkloadRow& row);
  // commit.cc
  /// Gives the workload's layer.
  Result<void> write_layer(const WorkloadRow& row, bool pause, const ByteTaker& sink);
  Result<std::string> write_image(const WorkloadRow& row, const oci::ImageConfig& config, const CommitRequest& request);

  // vm.cc
  /// The machine that a workload gets, and its specification's parts that a machine needs otherwise.
  Result<void> check_vm_host(const Config& config, std::vector<std::string>* notices);
  Result<void> make_vm_files(const WorkloadRow& row, const Config& config, const store::Image& image);
  Result<void> write_vm_json(const WorkloadRow& row, const Config& config, const store::Image& image);
  /// Whether what a workload writes to is there.
  bool has_files(const WorkloadRow& row) const;
  /// Bytes on disk of what it has written.
  uint64_t written_size(std::string_view id, Isolation isolation) const;

  // list.cc
  WorkloadSummary summary_of(const WorkloadRow& row, const RunState& state) const;

  Settings settings_;
  Paths paths_;
  EventLog events_;
  std::unique_ptr<store::ImageStore> images_;
  std::unique_ptr<Index> index_;
  std::optional<net::NetworkManager> network_;
  std::unique_ptr<IsolationDriver> container_driver_, vm_driver_;
  /// Control connections of the workloads that this process started attached.
  std::map<std::string, UniqueFd, std::less<>> primaries_;
  /// Of workloads that this process made: the size of the terminal that it is at.
  std::map<std::string, oci::Box, std::less<>> console_sizes_;
  std::vector<Timing> timings_;
  std::chrono::steady_clock::time_point last_mark_ = std::chrono::steady_clock::now();
};

/// JSON object of texts, "" for an empty one, and back.
std::string labels_to_json(const std::map<std::string, std::string>& labels);
std::map<std::string, std::string> labels_from_json(std::string_view json);

/// How many networks a virtual machine can be on.
inline constexpr size_t kMostVmNetworks = 1;
Result<net::EndpointRequest> endpoint_request(const NetworkAttachment& wanted);
Result<std::vector<net::PortMapping>> port_mappings(const Config& config);
/// As the index keeps published ports.
std::string ports_text(const std::vector<net::PublishedPort>& ports);

/// What a list shows of a workload's networks: their names with commas between, or the mode.
std::string joined_networks(const Config& config);

/// Of a filter: 24h, 10m (ago), a Unix time, or RFC 3339; in nanoseconds since 1970.
Result<int64_t> moment_of(const std::string& text);

/// 64 hex digits from the kernel's random numbers.
std::string random_id();

}  // namespace hull::engine
