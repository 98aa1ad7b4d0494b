#include "vmm/command.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/log.h"
#include "base/units.h"
#include "vmm/control.h"
#include "vmm/devices.h"
#include "vmm/gdb_stub.h"
#include "vmm/jail.h"
#include "vmm/machine.h"
#include "vmm/vhost_user_main.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm {

namespace {
int fail(int code, const std::string& message) {
  log_error("hull-vmm: {}", message);
  return code;
}

int usage() {
  return fail(kExitUsage,
              "usage: hull-vmm --config FILE [--gdb unix:PATH|tcp:127.0.0.1:PORT]\nhull-vmm(8) says what FILE holds");
}

int exit_code(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kNoSpace:
      return kExitNoSpace;
    case ErrorKind::kInvalid:
    case ErrorKind::kNotFound:
    case ErrorKind::kPermission:
    case ErrorKind::kUnsupported:
    case ErrorKind::kCorrupt:
      return kExitBoot;
    default:
      return kExitFailed;
  }
}

/// A description may come from a file, a pipe or an inherited memory file.
Result<std::string> read_description(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errnof("open the machine's description {}", path);
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errnof("read the machine's description {}", path);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > 1 << 20) return errorf(ErrorKind::kInvalid, "the machine's description {} is too long", path);
  }
}

/// Blocks the signals that end a machine and gives a descriptor to read them from. All later threads inherit the mask.
Result<UniqueFd> take_signals() {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGHUP);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  struct sigaction ignore{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
  UniqueFd fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return errno_error("make a signalfd");
  return fd;
}

std::string stats_document(const Machine& machine) {
  const MachineStats stats = machine.stats();
  JsonWriter json;
  json.object([&] {
    json.member("vcpus", stats.vcpus);
    json.member("memory_bytes", stats.memory_bytes);
    json.member("paused", stats.paused);
    json.member("port_exits", stats.port_exits);
    json.member("memory_exits", stats.memory_exits);
  });
  return std::move(json).take();
}

std::string devices_document(const Machine& machine) {
  JsonWriter json;
  json.array([&] {
    for (size_t i = 0; i < machine.devices().size(); ++i) {
      const VirtioDevice& device = *machine.devices()[i];
      json.object([&] {
        json.member("device", uint64_t{i});
        json.member("kind", device_kind(device.id()));
        json.member("driven", machine.driven(i));
        json.member("removed", !device.has_backing());
      });
    }
  });
  return std::move(json).take();
}

/// The main thread's work while the machine runs: signals, the control socket, the end.
class MainLoop {
 public:
  /// `balloon` may be null.
  MainLoop(Machine& machine, BalloonDevice* balloon, int signals)
      : machine_(machine), balloon_(balloon), signals_(signals) {}

  /// Before the jail, which takes the file system away.
  Result<void> prepare(const MachineConfig& config) {
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_) return errno_error("make an epoll descriptor");
    TRY(watch(machine_.stop_fd(), kEnd));
    TRY(watch(signals_, kSignal));
    if (!config.gdb.empty()) {
      TRY_ASSIGN(gdb_, GdbStub::listen(config.gdb, &machine_, epoll_.get()));
    }
    if (config.api_socket.empty()) return {};
    ControlHandlers handlers;
    handlers.pause = [this] {
      machine_.pause();
      control_->tell("paused");
    };
    handlers.resume = [this]() -> Result<void> {
      if (gdb_ && gdb_->holds()) return errorf(ErrorKind::kConflict, "a debugger has stopped the machine");
      machine_.resume();
      control_->tell("resumed");
      return {};
    };
    handlers.press_power_button = [this] {
      machine_.press_power_button();
      control_->tell("power-button");
    };
    handlers.stats = [this] { return stats_document(machine_); };
    handlers.set_balloon = [this](uint64_t bytes) -> Result<void> {
      if (balloon_ == nullptr) return errorf(ErrorKind::kConflict, "this machine has no balloon");
      balloon_->set_target_bytes(bytes);
      return {};
    };
    handlers.devices = [this] { return devices_document(machine_); };
    handlers.add_disk = [this](const std::string& body, std::vector<UniqueFd> fds) -> Result<size_t> {
      TRY_ASSIGN(const DiskConfig disk, parse_disk_config(body));
      return plug_disk(machine_, disk, std::move(fds));
    };
    handlers.add_net = [this](const std::string& body, std::vector<UniqueFd> fds) -> Result<size_t> {
      TRY_ASSIGN(const NetConfig net, parse_net_config(body));
      return plug_net(machine_, net, std::move(fds));
    };
    handlers.remove_device = [this](size_t index) { return machine_.unplug(index); };
    TRY(machine_.offer_slots());
    TRY_ASSIGN(control_, ControlServer::listen(config.api_socket, epoll_.get(), std::move(handlers)));
    return {};
  }

  void run() {
    std::array<epoll_event, 16> events;
    for (;;) {
      const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        const uint64_t key = events[static_cast<size_t>(i)].data.u64;
        if (key == kEnd) return;
        if (key == kSignal) return machine_.stop_control().stop(StopReason::kRequest);
        if (key <= GdbStub::kLastKey) {
          gdb_->on_event(key);
          continue;
        }
        control_->on_event(key, events[static_cast<size_t>(i)].events);
      }
    }
  }

  bool debugged() const { return gdb_ != nullptr; }

  void tell_end() {
    if (gdb_) gdb_->tell_end();
    if (!control_) return;
    control_->tell("end", to_string(machine_.stop_control().reason()));
    control_->close();
  }

 private:
  enum Key : uint64_t { kEnd, kSignal };
  Result<void> watch(int fd, Key key) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = key}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("watch a descriptor");
    return {};
  }

  Machine& machine_;
  BalloonDevice* balloon_;
  int signals_;
  UniqueFd epoll_;
  std::optional<ControlServer> control_;
  std::unique_ptr<GdbStub> gdb_;
};

int report(const StopControl& stop) {
  switch (stop.reason()) {
    case StopReason::kTripleFault:
      return fail(kExitGuestCrash, "the guest crashed: its processor met a third fault while handling two");
    case StopReason::kFailure:
      return fail(kExitGuestStuck, stop.detail());
    default:
      log_debug("the machine ended: {}", to_string(stop.reason()));
      return kExitEnded;
  }
}

/// What the description names as descriptors of its own: taps, and "/proc/self/fd/N" files.
std::vector<int> inherited_descriptors(const MachineConfig& config) {
  std::vector<int> fds;
  for (const NetConfig& net : config.nets) {
    fds.push_back(net.tap_fd);
    fds.insert(fds.end(), net.further_tap_fds.begin(), net.further_tap_fds.end());
  }
  const auto add = [&](std::string_view path) {
    constexpr std::string_view kPrefix = "/proc/self/fd/";
    if (!path.starts_with(kPrefix)) return;
    const Result<int64_t> fd = parse_int(path.substr(kPrefix.size()), 0, INT32_MAX);
    if (fd.ok()) fds.push_back(static_cast<int>(*fd));
  };
  add(config.kernel);
  add(config.initramfs);
  add(config.console_log);
  for (const DiskConfig& disk : config.disks) {
    for (const std::string& extent : disk.extents) add(extent);
  }
  for (const std::string& file : config.pmem) add(file);
  return fds;
}

/// Nothing of the guest has run when this returns, and nothing will run outside of the jail.
Result<void> start_confined(Machine& machine, bool debugged) {
  TRY_ASSIGN(const bool separate, begin_jail());
  // Memory and mounts each wait for the kernel's grace periods: at the same time.
  machine.begin_loading();
  const Result<void> jailed = finish_jail(separate);
  TRY(machine.end_loading());
  TRY(jailed);
  if (!separate) {
    log_warning("hull-vmm: this user may not make namespaces: the guest is held by the system-call filters alone");
  }
  set_worker_thread_hook([](std::string_view kind) { confine_thread(device_thread_kind(kind)); });
  TRY(machine.start(
      {.vcpu = [] { confine_thread(ThreadKind::kVcpu); }, .launcher = [] { confine_thread(ThreadKind::kLauncher); }}));
  confine_thread(debugged ? ThreadKind::kDebuggedMain : ThreadKind::kMain);
  if (!debugged) machine.resume();  // else a debugger says when
  return {};
}

int run_machine(const MachineConfig& config) {
  die_with_parent();
  if (const Result<void> closed = close_other_descriptors(inherited_descriptors(config)); !closed.ok()) {
    return fail(kExitFailed, closed.error().message());
  }
  const Result<UniqueFd> signals = take_signals();
  if (!signals.ok()) return fail(kExitFailed, signals.error().message());
  Result<Kvm> kvm = Kvm::open();
  if (!kvm.ok()) return fail(kExitNoKvm, kvm.error().message());
  Result<std::unique_ptr<Machine>> made = Machine::create(config, std::move(kvm).value());
  if (!made.ok()) return fail(exit_code(made.error()), made.error().message());
  Machine& machine = **made;
  const Result<BalloonDevice*> added = add_virtio_devices(machine, config);
  if (!added.ok()) return fail(exit_code(added.error()), added.error().message());
  MainLoop loop(machine, *added, signals->get());
  if (const Result<void> prepared = loop.prepare(config); !prepared.ok()) {
    return fail(exit_code(prepared.error()), prepared.error().message());
  }
  if (const Result<void> started = start_confined(machine, loop.debugged()); !started.ok()) {
    return fail(exit_code(started.error()), started.error().message());
  }
  loop.run();
  machine.finish();
  loop.tell_end();
  return report(machine.stop_control());
}

/// `gdb`: where a debugger may connect; empty: what the description says.
int run_config(const std::string& path, const std::string& gdb) {
  const Result<std::string> text = read_description(path);
  if (!text.ok()) return fail(kExitUsage, text.error().message());
  Result<MachineConfig> config = parse_machine_config(*text);
  if (!config.ok()) return fail(kExitUsage, fmt::format("{}: {}", path, config.error().message()));
  if (!gdb.empty()) config->gdb = gdb;
  return run_machine(*config);
}
}  // namespace

int run_command(int argc, char** argv) {
  // One heap for all threads: a heap for each costs memory and time, and hardly anything is allocated while it runs.
  // Besides, making one looks at the processors, which the threads' filters do not allow.
  ::mallopt(M_ARENA_MAX, 1);
  const std::vector<std::string_view> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (arguments.size() == 2 && arguments[0] == "--config") return run_config(std::string(arguments[1]), "");
  if (arguments.size() == 4 && arguments[0] == "--config" && arguments[2] == "--gdb") {
    return run_config(std::string(arguments[1]), std::string(arguments[3]));
  }
  for (const std::string_view argument : arguments) {
    if (argument == "--vhost-user") return vhost_user_main(argc, argv);
  }
  return usage();
}

}  // namespace hull::vmm
