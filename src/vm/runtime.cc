#include "vm/runtime.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <ctime>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"
#include "base/log.h"
#include "isolation/cgroup.h"
#include "runtime/console.h"
#include "runtime/hooks.h"
#include "sys/process.h"
#include "vm/creation.h"
#include "vm/outcome.h"
#include "vm/process_table.h"
#include "vm/supervisor.h"

namespace hull::vm {
namespace {

Result<isolation::Cgroup> open_cgroup(const runtime::Record& record) {
  if (record.cgroup.empty()) return errorf(ErrorKind::kUnsupported, "container {} has no cgroup", record.id);
  return isolation::Cgroup::open(record.cgroup);
}

Result<UniqueFd> connect_gate(int folder) {
  UniqueFd gate(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!gate) return errno_error("make unix socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder, runtime::kGateFile);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(gate.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error("open the gate of the container");
  }
  return gate;
}

Error not_running() { return errorf(ErrorKind::kConflict, "container not running"); }

/// Whether the failure is the machine's rather than the guest's answer.
bool is_unreachable(const Error& error) {
  return error.kind() == ErrorKind::kTimeout || error.kind() == ErrorKind::kUnavailable ||
         error.kind() == ErrorKind::kCorrupt;
}

/// A guest's statistics, when they are JSON of bearable size: the line goes to programs that trust it to be one.
bool is_json(const std::string& text) {
  constexpr size_t kMost = 256 << 10;
  if (text.empty() || text.size() > kMost || text.find('\n') != std::string::npos) return false;
  JsonReader reader(text);
  reader.skip();
  return reader.finish().ok();
}

}  // namespace

Result<OpenedMachine> open_machine(const std::string& root, const std::string& id) {
  OpenedMachine machine;
  TRY_ASSIGN(machine.folder, runtime::open_container(root, id));
  TRY_ASSIGN(machine.record, runtime::read_record(machine.folder.get(), id));
  if (!machine.record.vm && machine.record.pid != 0) {
    return errorf(ErrorKind::kUnsupported, "{} is a container and no virtual machine: use hull-oci", id);
  }
  machine.status = runtime::status_of(machine.folder.get(), machine.record);
  machine.vsock = fmt::format("{}/{}/{}/{}", root, id, kMachineFolder, kVsockName);
  machine.patience = patience_of(machine.record.vm && machine.record.vm->emulated);
  return machine;
}

Result<void> Runtime::check(const std::string& id) {
  TRY(open_machine(options_.root, id));
  return {};
}

Result<void> Runtime::create(const runtime::CreateOptions& options) {
  Creation creation(options_, options);
  TRY(creation.make());
  if (creation.master() >= 0) {
    return errorf(ErrorKind::kInvalid, "cannot allocate tty if runtime will detach without setting console socket");
  }
  creation.release();
  return {};
}

Result<void> Runtime::start(const std::string& id) {
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  switch (machine.status) {
    case runtime::Status::kCreated:
      break;
    case runtime::Status::kStopped:
      return errorf(ErrorKind::kConflict, "cannot start a container that has stopped");
    case runtime::Status::kCreating:
      return errorf(ErrorKind::kConflict, "cannot start a container that is being created");
    default:
      return errorf(ErrorKind::kConflict, "cannot start an already running container");
  }
  TRY_ASSIGN(const UniqueFd gate, connect_gate(machine.folder.get()));
  if (::send(gate.get(), "S", 1, MSG_NOSIGNAL) != 1) return errno_error("open the gate of the container");
  auto started = receive_outcome(gate.get());
  ::unlinkat(machine.folder.get(), runtime::kGateFile, 0);
  TRY(std::move(started));
  runtime::HookPlace place;
  place.folder = machine.record.bundle;
  auto poststart = runtime::run_hooks("poststart", machine.record.poststart,
                                      runtime::state_document(machine.record, "running"), place);
  if (!poststart.ok()) ignore_result(remove(id, true));
  return poststart;
}

Result<int> Runtime::run(const runtime::CreateOptions& options) {
  Creation creation(options_, options);
  TRY(creation.make());
  if (creation.master() >= 0 && options.detach) {
    return errorf(ErrorKind::kInvalid, "cannot allocate tty if runtime will detach without setting console socket");
  }
  TRY(start(options.id));
  creation.release();
  if (options.detach) return 0;
  TRY_ASSIGN(const int code, runtime::wait_in_foreground(creation.record().pid, creation.pidfd(), creation.master(),
                                                         !options.no_subreaper));
  if (!options.keep) {
    auto removed = remove(options.id, false);
    if (!removed.ok()) log_warning("{}", removed.error().message());
  }
  return code;
}

Result<void> Runtime::kill(const std::string& id, int signal, bool all) {
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  if (machine.status == runtime::Status::kStopped || machine.status == runtime::Status::kCreating) return not_running();
  TRY_ASSIGN(const UniqueFd pidfd, sys::pidfd_open(machine.record.pid));
  if (!sys::is_alive(machine.record.pid, machine.record.start_time)) return not_running();
  if (machine.status == runtime::Status::kCreated) {
    // As the first process of a container that waits to be started: it ignores what it does not expect.
    if (signal == SIGKILL) return sys::pidfd_signal(pidfd.get(), SIGKILL);
    return {};
  }
  if (runtime::is_paused(machine.record)) {
    // Passed on when it is resumed. SIGKILL can't wait.
    if (signal != SIGKILL) return sys::pidfd_signal(pidfd.get(), signal);
    TRY_ASSIGN(isolation::Cgroup cgroup, open_cgroup(machine.record));
    TRY(cgroup.thaw());
  }
  const guest::Deadline deadline = guest::after(machine.patience.call);
  auto sent = [&]() -> Result<void> {
    TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(machine.vsock, deadline));
    return agent.signal("", signal, all, deadline);
  }();
  if (sent.ok()) return {};
  if (!is_unreachable(sent.error())) {
    if (sent.error().kind() == ErrorKind::kNotFound || sent.error().kind() == ErrorKind::kConflict)
      return not_running();
    return sent;
  }
  if (!sys::is_alive(machine.record.pid, machine.record.start_time)) return not_running();
  if (signal == SIGKILL) return sys::pidfd_signal(pidfd.get(), SIGKILL);
  return std::move(sent).error().context("the virtual machine does not take signals (SIGKILL ends it)");
}

Result<void> Runtime::resume(const std::string& id) {
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  TRY_ASSIGN(isolation::Cgroup cgroup, open_cgroup(machine.record));
  TRY_ASSIGN(const bool frozen, cgroup.frozen());
  if (machine.status == runtime::Status::kStopped || !frozen) {
    return errorf(ErrorKind::kConflict, "container not paused: cannot resume container {}", id);
  }
  TRY(cgroup.thaw());
  if (machine.status != runtime::Status::kRunning) return {};
  // A guest's clock may have stood still.
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const guest::Deadline deadline = guest::after(machine.patience.call);
  auto set = [&]() -> Result<void> {
    TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(machine.vsock, deadline));
    return agent.set_time(int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec, deadline);
  }();
  if (!set.ok()) log_warning("the clock of {} was not set after the pause: {}", id, set.error().message());
  return {};
}

Result<void> Runtime::update(const std::string& id, const oci::Resources& resources) {
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  if (machine.status == runtime::Status::kStopped) return not_running();
  oci::Resources host;
  host.cpu = resources.cpu;
  host.block_io = resources.block_io;
  host.network = resources.network;
  host.rdma = resources.rdma;
  oci::Resources inner = resources;
  inner.cpu.reset();
  inner.block_io.reset();
  inner.network.reset();
  inner.rdma.clear();
  if (inner.memory && inner.memory->limit.value_or(-1) >= 0) {
    const auto limit = static_cast<uint64_t>(*inner.memory->limit);
    if (limit > machine.record.vm->memory_bytes) {
      return errorf(ErrorKind::kUnsupported,
                    "{} MiB of memory: the virtual machine was made with {} MiB, which can't grow while it runs",
                    limit >> 20, machine.record.vm->memory_bytes >> 20);
    }
  }
  TRY_ASSIGN(isolation::Cgroup cgroup, open_cgroup(machine.record));
  if (machine.status == runtime::Status::kRunning) {
    const guest::Deadline deadline = guest::after(machine.patience.call);
    TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(machine.vsock, deadline));
    TRY(agent.update(oci::to_json(inner), deadline));
  } else if (inner.memory || inner.pids_limit || !inner.unified.empty()) {
    return errorf(ErrorKind::kConflict, "limits inside a virtual machine can be changed when it is started");
  }
  return cgroup.apply(host);
}

Result<std::optional<std::string>> Runtime::process_table(const std::string& id,
                                                          const std::vector<std::string>& ps_options) {
  TRY_ASSIGN(const ProcessColumns columns, ProcessColumns::parse(ps_options));
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  if (machine.status == runtime::Status::kStopped) return not_running();
  if (machine.status != runtime::Status::kRunning) return std::optional(columns.draw({}));
  const guest::Deadline deadline = guest::after(machine.patience.call);
  TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(machine.vsock, deadline));
  TRY_ASSIGN(const guest::proto::ProcessesResponse processes, agent.processes(deadline));
  return std::optional(columns.draw(processes));
}

Result<std::string> Runtime::stats(const std::string& id) {
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  if (machine.status == runtime::Status::kStopped) {
    return errorf(ErrorKind::kConflict, "container with id {} is not running", id);
  }
  TRY_ASSIGN(const isolation::Cgroup cgroup, open_cgroup(machine.record));
  TRY_ASSIGN(const isolation::CgroupStats stats, cgroup.stats());
  JsonWriter head;
  head.object([&] {
    head.member("type", "stats");
    head.member("id", id);
  });
  std::string text = std::move(head).take();
  text.pop_back();
  text += ",\"data\":" + isolation::stats_json(stats);
  if (machine.status == runtime::Status::kRunning && !runtime::is_paused(machine.record)) {
    const guest::Deadline deadline = guest::after(machine.patience.call);
    auto asked = [&]() -> Result<guest::proto::StatsResponse> {
      TRY_ASSIGN(guest::AgentClient agent, guest::AgentClient::connect(machine.vsock, deadline));
      return agent.stats(deadline);
    }();
    if (asked.ok()) {
      JsonWriter guest;
      guest.object([&] {
        guest.member("memoryTotal", asked->memory_total_bytes());
        guest.member("memoryFree", asked->memory_free_bytes());
        guest.member("memoryAvailable", asked->memory_available_bytes());
        guest.array("interfaces", [&] {
          for (const guest::proto::InterfaceStats& interface : asked->interfaces()) {
            guest.object([&] {
              guest.member("name", interface.name());
              guest.member("receivedBytes", interface.received_bytes());
              guest.member("receivedPackets", interface.received_packets());
              guest.member("sentBytes", interface.sent_bytes());
              guest.member("sentPackets", interface.sent_packets());
            });
          }
        });
      });
      std::string inside = std::move(guest).take();
      inside.pop_back();
      if (is_json(asked->json())) inside += ",\"workload\":" + asked->json();
      text += ",\"guest\":" + inside + "}";
    } else {
      log_warning("the guest of {} told no numbers: {}", id, asked.error().message());
    }
  }
  return text + "}";
}

Result<int> Runtime::exec(const std::string& id, const runtime::ExecOptions& options) {
  TRY_ASSIGN(const OpenedMachine machine, open_machine(options_.root, id));
  if (machine.status == runtime::Status::kStopped || machine.status == runtime::Status::kCreating) {
    return errorf(ErrorKind::kConflict, "cannot exec in a stopped container");
  }
  if (machine.status == runtime::Status::kCreated) {
    return errorf(ErrorKind::kConflict, "cannot exec in a virtual machine that has not been started");
  }
  return execute(machine, options);
}

}  // namespace hull::vm
