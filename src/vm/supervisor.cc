#include "vm/supervisor.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "base/error_format.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/mount_api.h"
#include "vm/confine.h"
#include "vm/descriptors.h"
#include "vm/layer_disk.h"
#include "vm/network_handover.h"
#include "vm/outcome.h"
#include "vm/remote_process.h"
#include "vm/shares.h"
#include "vm/terminal.h"
#include "vm/text_tail.h"

namespace hull::vm {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPingEvery = 5s;
/// Output that nobody takes for so long after the workload's end is given up.
constexpr auto kDrainPatience = 10s;
constexpr size_t kConsoleLines = 12;
constexpr int kConsolePipeBytes = 1 << 20;

std::string run_path(const char* name) { return fmt::format("{}/{}", kRunFolder, name); }

class Supervisor {
 public:
  explicit Supervisor(SupervisorPlan plan) : plan_(std::move(plan)), patience_(patience_of(plan_.emulated)) {}
  [[noreturn]] void run();

 private:
  // Before the loop.
  void await_creator();
  void close_other_descriptors();
  Result<void> enter_place();
  Result<void> mount_run_folder();
  Result<void> share_files();
  Result<void> add_disks();
  Result<void> open_console();
  Result<void> listen_for_ready();
  Result<void> add_network_cards();
  Result<void> launch();

  // In the loop.
  void turn();
  void collect();
  int next_timeout_ms() const;
  void on_creator();
  void on_gate();
  void on_ready();
  void on_signals_before_start();
  void on_ping();
  void look_at_the_clock();
  Result<void> start_workload();
  Result<void> retire();
  guest::proto::ConfigureRequest configuration(const std::vector<guest::proto::Interface>& interfaces) const;
  guest::proto::CreateRequest creation(const guest::proto::Streams& streams) const;

  // The end.
  Error explain(Error error);
  std::string console_words() const;
  void fail(Error error);
  [[noreturn]] void finish(const guest::proto::WaitResponse& response);
  void stop_machine();
  void note_oom();

  SupervisorPlan plan_;
  Patience patience_;
  UniqueFd signals_, ready_listener_, start_request_;
  std::vector<UniqueFd> taps_;
  DrainedPipe console_, daemon_log_;
  UniqueFd console_write_, oom_file_;
  std::string tail_file_ = run_path("console.tail");
  FileDaemon daemon_;
  Machine machine_;
  bool launched_ = false, ready_ = false, released_ = false, started_ = false;
  Clock::time_point launched_at_;
  std::optional<Error> failure_;  // before start: told to whoever starts
  std::optional<RemoteProcess> workload_;
  std::optional<guest::AgentClient> ping_;
  bool ping_pending_ = false;
  Clock::time_point ping_at_, last_turn_;
  PollSet set_;
};

// ---- Before the loop ------------------------------------------------------------------------------------------------

void Supervisor::await_creator() {
  char byte = 0;
  ssize_t got = -1;
  do {
    got = ::recv(plan_.creator, &byte, 1, 0);
  } while (got < 0 && errno == EINTR);
  if (got != 1) ::_exit(1);
}

/// The creator's descriptors are not ours: a pipe that an engine reads to its end must not stay open here.
void Supervisor::close_other_descriptors() {
  std::vector<int> kept = {plan_.creator, plan_.gate, plan_.slave, plan_.network_namespace};
  kept.insert(kept.end(), plan_.cgroup_tasks.begin(), plan_.cgroup_tasks.end());
  close_descriptors_but(std::move(kept));
}

Result<void> Supervisor::enter_place() {
  for (const int tasks : plan_.cgroup_tasks) {
    if (::write(tasks, "0", 1) != 1) return errno_error("join the control group");
    ::close(tasks);
  }
  ::prctl(PR_SET_NAME, "hull-vm");
  ::setsid();
  if (plan_.slave >= 0) {
    TRY(adopt_terminal(plan_.slave));
    ::close(plan_.slave);
  }
  TRY_ASSIGN(signals_, catch_signals());
  if (plan_.network_namespace >= 0) {
    if (::setns(plan_.network_namespace, CLONE_NEWNET) != 0) return errno_error("join the network namespace");
    ::close(plan_.network_namespace);
  } else if (::unshare(CLONE_NEWNET) != 0) {
    return errno_error("make a network namespace");
  }
  if (::unshare(CLONE_NEWNS) != 0) return errno_error("make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0)
    return errno_error("part from the host's mounts");
  return {};
}

Result<void> Supervisor::mount_run_folder() {
  TRY(sys::make_dirs(kRunFolder, 0700));
  TRY_ASSIGN(const UniqueFd tree, sys::clone_mount(AT_FDCWD, plan_.machine_folder, false));
  TRY_ASSIGN(const UniqueFd place, sys::open(kRunFolder, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return sys::attach_mount(tree.get(), place.get(), "");
}

Result<void> Supervisor::share_files() {
  if (plan_.spec.shares.empty()) return {};
  const std::string folder = run_path("share");
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return errnof("make {}", folder);
  TRY(mount_shares(plan_.spec.shares, folder));
  TRY_ASSIGN(sys::Pipe log, sys::make_pipe());
  const std::string socket = run_path("share.sock");
  TRY_ASSIGN(daemon_, start_file_daemon(folder, socket, !plan_.shares_root, log.write_end.get()));
  daemon_log_ = DrainedPipe(std::move(log.read_end), UniqueFd());
  plan_.machine.filesystems.push_back({"share", socket});
  return {};
}

Result<void> Supervisor::add_disks() {
  if (!plan_.vm.layers.empty()) {
    TRY_ASSIGN(vmm::DiskConfig disk, make_layer_disk(plan_.vm.layers, run_path("layers")));
    plan_.machine.disks.push_back(std::move(disk));
  }
  if (!plan_.vm.scratch.empty()) {
    vmm::DiskConfig disk;
    disk.extents.push_back(plan_.vm.scratch);
    disk.read_only = false;
    disk.serial = "scratch";
    plan_.machine.disks.push_back(std::move(disk));
  }
  return {};
}

/// A fifo, not a file: a guest may write without end.
Result<void> Supervisor::open_console() {
  const std::string path = run_path("console");
  if (::mkfifo(path.c_str(), 0600) != 0) return errnof("make {}", path);
  TRY_ASSIGN(UniqueFd read_end, sys::open(path, O_RDONLY | O_NONBLOCK));
  // Held so that the fifo does not end before the machine has opened it.
  TRY_ASSIGN(console_write_, sys::open(path, O_WRONLY));
  ::fcntl(read_end.get(), F_SETPIPE_SZ, kConsolePipeBytes);
  UniqueFd copy;
  if (!plan_.vm.console_log.empty()) {
    TRY_ASSIGN(copy, sys::open(plan_.vm.console_log, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  }
  console_ = DrainedPipe(std::move(read_end), std::move(copy));
  plan_.machine.console_log = path;
  return {};
}

Result<void> Supervisor::listen_for_ready() {
  plan_.machine.vsock_socket = run_path(kVsockName);
  const std::string path = fmt::format("{}_{}", plan_.machine.vsock_socket, guest::kReadyPort);
  ready_listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!ready_listener_) return errno_error("make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::bind(ready_listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(ready_listener_.get(), 4) != 0) {
    return errnof("listen at {}", path);
  }
  return {};
}

/// Before the networks are there, when it is the engine's that comes (it says how many); after, with other engines.
Result<void> Supervisor::add_network_cards() {
  size_t cards = plan_.vm.nics;
  if (cards == 0) {
    TRY_ASSIGN(cards, count_interfaces());
    cards = std::clamp<size_t>(cards, 1, kMostNics);
  }
  for (size_t card = 0; card < cards; ++card) {
    TRY_ASSIGN(UniqueFd tap, open_tap(card));
    vmm::NetConfig net;
    net.tap_fd = tap.get();
    TRY_ASSIGN(net.mac, random_mac());
    plan_.machine.nets.push_back(net);
    taps_.push_back(std::move(tap));
  }
  return {};
}

Result<void> Supervisor::launch() {
  TRY(enter_place());
  TRY(mount_run_folder());
  TRY(share_files());
  TRY(add_network_cards());
  TRY(add_disks());
  TRY(open_console());
  TRY(listen_for_ready());
  TRY_ASSIGN(machine_, plan_.hypervisor->start(plan_.machine, kRunFolder));
  taps_.clear();  // the machine's alone now
  launched_ = true;
  launched_at_ = Clock::now();
  return {};
}

// ---- Starting the workload ------------------------------------------------------------------------------------------

guest::proto::ConfigureRequest Supervisor::configuration(const std::vector<guest::proto::Interface>& interfaces) const {
  guest::proto::ConfigureRequest request;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  request.set_time_ns(int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec);
  request.set_hostname(plan_.spec.guest.hostname);
  for (const guest::proto::Interface& interface : interfaces) *request.add_interfaces() = interface;
  if (!plan_.shares_root) {
    guest::proto::OverlayRoot* root = request.mutable_root();
    for (size_t i = 0; i < plan_.vm.layers.size(); ++i) {
      guest::proto::Layer* layer = root->add_layers();
      layer->set_serial("layers");
      layer->set_partition(static_cast<uint32_t>(i + 1));
    }
    if (!plan_.vm.scratch.empty()) root->set_scratch_serial("scratch");
  }
  if (!plan_.spec.shares.empty()) request.set_share_tag("share");
  for (const auto& [name, value] : plan_.spec.sysctl) (*request.mutable_sysctl())[name] = value;
  return request;
}

guest::proto::CreateRequest Supervisor::creation(const guest::proto::Streams& streams) const {
  guest::proto::CreateRequest request;
  request.set_id(plan_.id);
  request.set_config(oci::to_json(plan_.spec.guest));
  *request.mutable_streams() = streams;
  if (plan_.vm.resolve_user) {
    request.mutable_user()->set_set(true);
    request.mutable_user()->set_user(plan_.user);
    for (const std::string& group : plan_.vm.groups_add) request.mutable_user()->add_groups_add(group);
    request.mutable_user()->set_set_home(true);
  }
  return request;
}

Result<void> Supervisor::start_workload() {
  const std::string& vsock = plan_.machine.vsock_socket;
  const auto limit = [&] { return guest::after(patience_.call); };
  TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(vsock, limit()));
  TRY_ASSIGN(const std::vector<guest::proto::Interface> interfaces, hand_over_network(plan_.machine.nets.size()));
  // What was said before the network, disks and folders are in place takes the guest longest.
  TRY(agent.configure(configuration(interfaces), guest::after(patience_.boot)));
  const bool terminal = plan_.spec.guest.process->terminal;
  const Relay::Ends ends{STDIN_FILENO, STDOUT_FILENO, terminal ? -1 : STDERR_FILENO, terminal};
  TRY_ASSIGN(const std::string token, guest::make_stream_token());
  guest::proto::Streams streams = Relay::describe(ends, token);
  if (terminal) {
    make_raw(STDIN_FILENO);
    set_size(streams, terminal_size(STDIN_FILENO));
  }
  TRY_ASSIGN([[maybe_unused]] const uint32_t pid, agent.create(creation(streams), limit()));
  workload_.emplace(vsock, "", signals_.get(), patience_);
  TRY(workload_->open_streams(token, ends));
  TRY(agent.start(limit()));
  TRY(workload_->watch(std::move(agent)));
  TRY_ASSIGN(guest::AgentClient ping, guest::AgentClient::connect(vsock, limit()));
  ping_.emplace(std::move(ping));
  TRY(retire());
  ping_at_ = Clock::now() + kPingEvery;
  return {};
}

/// What the end needs is opened now; nothing of the host is in sight afterwards.
Result<void> Supervisor::retire() {
  if (!plan_.vm.oom_file.empty()) {
    TRY_ASSIGN(oom_file_, sys::open(plan_.vm.oom_file, O_WRONLY | O_NOFOLLOW));
  }
  TRY(confine(kRunFolder, plan_.spec.shares.empty() ? "" : run_path("share")));
  tail_file_ = "/console.tail";
  machine_.log = machine_.log.substr(std::min(std::strlen(kRunFolder), machine_.log.size()));
  return {};
}

// ---- The loop -------------------------------------------------------------------------------------------------------

void Supervisor::on_creator() {
  char byte = 0;
  const ssize_t got = ::recv(plan_.creator, &byte, 1, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got != 1) {  // it was killed, or found a reason not to go on
    stop_machine();
    ::_exit(kMachineFailed);
  }
  released_ = true;
  ::close(plan_.creator);
  plan_.creator = -1;
}

void Supervisor::on_gate() {
  UniqueFd connection(::accept4(plan_.gate, nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) return;
  if (start_request_ || started_) {
    send_outcome(connection.get(), errorf(ErrorKind::kConflict, "cannot start an already running container"));
    return;
  }
  // The state of a container is asked for by connecting too; only who says so wants it started.
  char byte = 0;
  pollfd polled{connection.get(), POLLIN, 0};
  if (::poll(&polled, 1, 1000) != 1 || ::recv(connection.get(), &byte, 1, MSG_DONTWAIT) != 1 || byte != 'S') return;
  start_request_ = std::move(connection);
}

void Supervisor::on_ready() {
  const UniqueFd connection(::accept4(ready_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (connection) ready_ = true;
}

void Supervisor::on_signals_before_start() {
  // As pid 1 of a container has it that waits to be started: nothing but SIGKILL reaches it.
  char info[128];
  while (::read(signals_.get(), info, sizeof info) > 0) {
  }
}

void Supervisor::on_ping() {
  auto answered = ping_->finish_ping();
  if (!answered.ok()) {
    ping_pending_ = false;
    return fail(std::move(answered).error());
  }
  if (!*answered) return;
  ping_pending_ = false;
  ping_at_ = Clock::now() + kPingEvery;
}

/// What is due, and what took too long.
void Supervisor::look_at_the_clock() {
  const auto now = Clock::now();
  // A pause stops this process as it stops the guest: then nobody was late.
  if (started_ && now - last_turn_ > 2 * kPingEvery) ping_at_ += now - last_turn_;
  last_turn_ = now;
  if (!started_) {
    if (!ready_ && !failure_ && now - launched_at_ > patience_.boot) {
      fail(errorf(ErrorKind::kTimeout, "the virtual machine was not ready within {} seconds",
                  std::chrono::duration_cast<std::chrono::seconds>(patience_.boot).count()));
    }
    return;
  }
  if (!ping_ || now < ping_at_) return;
  if (ping_pending_) {
    fail(errorf(ErrorKind::kTimeout, "the virtual machine hangs: no answer for {} seconds",
                std::chrono::duration_cast<std::chrono::seconds>(patience_.hung).count()));
    return;
  }
  auto begun = ping_->begin_ping(guest::after(patience_.hung));
  if (!begun.ok()) return fail(std::move(begun).error());
  ping_pending_ = true;
  ping_at_ = now + patience_.hung;
}

int Supervisor::next_timeout_ms() const {
  // In steps of kPingEvery, so that a pause shows as a longer one.
  const auto now = Clock::now();
  Clock::time_point next = now + 1h;
  if (started_) {
    next = std::min(ping_at_, now + kPingEvery);
  } else if (!ready_ && !failure_) {
    next = launched_at_ + patience_.boot;
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, 3'600'000));
}

void Supervisor::collect() {
  set_.clear();
  set_.add(console_.fd(), POLLIN, [this](short) { console_.drain(); });
  set_.add(daemon_log_.fd(), POLLIN, [this](short) { daemon_log_.drain(); });
  if (!released_) set_.add(plan_.creator, POLLIN, [this](short) { on_creator(); });
  if (!started_) {
    set_.add(plan_.gate, POLLIN, [this](short) { on_gate(); });
    set_.add(signals_.get(), POLLIN, [this](short) { on_signals_before_start(); });
    if (!ready_) set_.add(ready_listener_.get(), POLLIN, [this](short) { on_ready(); });
  } else {
    workload_->collect(set_);
    if (ping_pending_) set_.add(ping_->fd(), POLLIN, [this](short) { on_ping(); });
  }
  if (failure_) return;
  set_.add(machine_.vmm().pidfd.get(), POLLIN,
           [this](short) { fail(errorf(ErrorKind::kUnavailable, "the virtual machine ended")); });
  if (daemon_.pidfd) {
    set_.add(daemon_.pidfd.get(), POLLIN, [this](short) {
      daemon_log_.drain();
      fail(errorf(ErrorKind::kUnavailable, "virtiofsd ended: {}", daemon_log_.tail().last_lines(3, "; ")));
    });
  }
}

void Supervisor::turn() {
  collect();
  auto waited = set_.wait(next_timeout_ms());
  if (!waited.ok()) return fail(std::move(waited).error());
  look_at_the_clock();
  if (started_) {
    if (!workload_->ended()) return;
    if (workload_->ended()->ok()) finish(**workload_->ended());
    return fail(workload_->ended()->error());
  }
  if (!start_request_ || !(ready_ || failure_)) return;
  Result<void> outcome = failure_ ? Result<void>(*failure_) : start_workload();
  if (outcome.ok()) {
    started_ = true;
    last_turn_ = Clock::now();
    ::close(plan_.gate);
    plan_.gate = -1;
    send_outcome(start_request_.get(), outcome);
    start_request_.reset();
    return;
  }
  if (!failure_) outcome = explain(std::move(outcome).error());
  stop_machine();
  send_outcome(start_request_.get(), outcome);
  ::_exit(kMachineFailed);
}

// ---- The end --------------------------------------------------------------------------------------------------------

std::string Supervisor::console_words() const {
  const std::string lines = console_.tail().last_lines(kConsoleLines);
  return lines.empty() ? std::string() : fmt::format("; the guest's console said last:\n{}", lines);
}

/// An error of the connection to the guest is told by what is behind it: a machine that ended, with its last words.
/// What the guest itself says went wrong (a program that is not there) is complete as it is.
Error Supervisor::explain(Error error) {
  const bool about_machine = error.kind() == ErrorKind::kUnavailable || error.kind() == ErrorKind::kTimeout ||
                             error.kind() == ErrorKind::kCorrupt;
  if (!about_machine || !launched_) return error;
  console_.drain();
  // A connection breaks a moment before the process is seen to have ended.
  constexpr int kMomentMs = 200;
  pollfd polled{machine_.vmm().pidfd.get(), POLLIN, 0};
  siginfo_t info{};
  const bool ended =
      ::poll(&polled, 1, kMomentMs) == 1 &&
      ::waitid(P_PIDFD, static_cast<id_t>(machine_.vmm().pidfd.get()), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_pid != 0;
  if (!ended) return Error(error.kind(), error.message() + console_words());
  for (int i = 0; i < 64 && console_.fd() >= 0; ++i) console_.drain();
  const int status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
  ignore_result(sys::replace_file(tail_file_, console_.tail().text(), 0600, false));
  return machine_failure(machine_, status, tail_file_);
}

/// Before the start somebody will ask; afterwards the workload's standard error is where a user looks.
void Supervisor::fail(Error error) {
  if (failure_) return;
  if (started_ && workload_->ended() && workload_->ended()->ok()) return;
  Error told = explain(std::move(error));
  if (!started_) {
    failure_ = std::move(told);
    return;
  }
  stop_machine();
  workload_->drain(0ms, 0ms);
  const std::string line = fmt::format("hull-oci-vm: {}\n", told.message());
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(kMachineFailed);
}

void Supervisor::note_oom() {
  if (oom_file_) ignore_result(sys::write_all(oom_file_.get(), "oom_kill 1\n"));
}

void Supervisor::finish(const guest::proto::WaitResponse& response) {
  // Its pid namespace has ended with it, and so has every writer.
  workload_->drain(kDrainPatience, kDrainPatience);
  if (response.oom_killed()) note_oom();
  // What the guest has written is on the disk before anybody learns that the workload has ended.
  ignore_result(workload_->control().shutdown(guest::after(patience_.shutdown)));
  stop_machine();
  ::_exit(exit_code_of(response));
}

void Supervisor::stop_machine() {
  if (launched_) machine_.kill();
  if (daemon_.pid > 0) {
    ::kill(daemon_.pid, SIGKILL);
    while (::waitpid(daemon_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

void Supervisor::run() {
  await_creator();
  close_other_descriptors();
  set_log(LogLevel::kError, LogFormat::kText, STDERR_FILENO);
  auto launched = launch();
  if (!launched.ok()) {
    stop_machine();
    send_outcome(plan_.creator, launched);
    ::_exit(kMachineFailed);
  }
  send_outcome(plan_.creator, launched);
  last_turn_ = Clock::now();
  for (;;) turn();
}

}  // namespace

void supervise(SupervisorPlan plan) { Supervisor(std::move(plan)).run(); }

}  // namespace hull::vm
