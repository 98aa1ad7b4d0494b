#include "vm/creation.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "runtime/hooks.h"
#include "runtime/launch.h"
#include "runtime/launch_parts.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"
#include "vm/outcome.h"
#include "vm/program_check.h"
#include "vm/supervisor.h"

namespace hull::vm {
namespace {

constexpr int64_t kMiscMajor = 10;
constexpr int64_t kKvmMinor = 232;
constexpr int64_t kTunMinor = 200;

oci::DeviceCgroup device(bool allow, const char* type, std::optional<int64_t> major, std::optional<int64_t> minor) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = "rwm"};
}

}  // namespace

Creation::~Creation() {
  if (released_) return;
  if (pidfd_) {
    ignore_result(sys::pidfd_signal(pidfd_.get(), SIGKILL));
    creator_.reset();
    while (::waitpid(record_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (cgroup_) {
    ignore_result(cgroup_->kill_all(SIGKILL));
    auto removed = cgroup_->remove();
    if (!removed.ok()) log_warning("{}", removed.error().message());
  }
  if (hooks_ran_ && spec().hooks) {
    auto ran = runtime::run_hooks("poststop", spec().hooks->poststop, runtime::state_document(record_, "stopped"));
    if (!ran.ok()) log_warning("{}", ran.error().message());
  }
  if (reserved_) ignore_result(sys::remove_tree(options_.root + "/" + create_.id));
}

Result<void> Creation::make() {
  TRY(check_options());
  TRY_ASSIGN(plan_, plan_machine(create_.bundle, create_.config));
  if (plan_.shares_root) TRY(check_program(spec(), plan_.rootfs));
  if (plan_.choice.emulated) log_debug("{}", plan_.choice.reason);
  if (!plan_.parts.network_namespace.empty()) {
    TRY_ASSIGN(network_namespace_,
               runtime::open_namespace({oci::NamespaceType::kNetwork, plan_.parts.network_namespace}));
  }
  TRY(reserve());
  TRY(plan_cgroup());
  TRY_ASSIGN(record_file_, runtime::create_record(folder_.get(), record_, {}));
  if (cgroup_) {
    auto made = cgroup_->make();
    if (!made.ok()) {
      cgroup_.reset();  // what make() did is undone; the rest may be somebody else's
      return made;
    }
    const oci::Resources resources = host_resources();
    TRY(cgroup_->apply_initial(&resources));
  }
  TRY(make_gate());
  TRY(open_console());
  TRY(fork_supervisor());
  TRY(receive_outcome(creator_.get()));
  TRY(run_hooks());
  return announce();
}

Result<void> Creation::check_options() const {
  if (options_.rootless.value_or(false) || ::geteuid() != 0) {
    return errorf(ErrorKind::kUnsupported,
                  "virtual machines need root: namespaces, mounts and a tap are made for them");
  }
  if (create_.preserve_fds + create_.listen_fds > 0) {
    return errorf(ErrorKind::kUnsupported, "--preserve-fds and LISTEN_FDS: no descriptor can reach a virtual machine");
  }
  if (create_.id.empty()) return errorf(ErrorKind::kInvalid, "container id cannot be empty");
  if (runtime::valid_id(create_.id)) return {};
  return errorf(ErrorKind::kInvalid, "invalid container id \"{:.100}\": 1 to 1024 of letters, digits, _ + . -",
                create_.id);
}

Result<void> Creation::reserve() {
  const std::string path = options_.root + "/" + create_.id;
  TRY(sys::make_dirs(options_.root, 0700));
  if (::mkdir(path.c_str(), 0700) != 0) {
    if (errno == EEXIST) return errorf(ErrorKind::kExists, "container with id exists: {}", create_.id);
    return errnof("make {}", path);
  }
  reserved_ = true;
  TRY_ASSIGN(folder_, sys::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (::mkdirat(folder_.get(), kMachineFolder, 0700) != 0) return errnof("make {}/{}", path, kMachineFolder);
  record_.id = create_.id;
  record_.bundle = plan_.bundle;
  if (create_.config != "config.json") record_.config = create_.config;
  record_.oci_version = spec().version;
  record_.created = format_rfc3339(std::chrono::system_clock::now());
  record_.annotations = spec().annotations;
  record_.terminal = spec().process->terminal;
  record_.program = spec().process->args[0];
  record_.systemd_cgroup = options_.systemd_cgroup;
  record_.rootfs = plan_.rootfs;
  if (spec().hooks) {
    record_.poststart = spec().hooks->poststart;
    record_.poststop = spec().hooks->poststop;
  }
  runtime::VmRecord& vm = record_.vm.emplace();
  vm.memory_bytes = plan_.machine.memory_bytes;
  vm.vcpus = plan_.machine.vcpus;
  vm.hypervisor = plan_.choice.hypervisor->name();
  vm.emulated = plan_.choice.emulated;
  return {};
}

Result<void> Creation::plan_cgroup() {
  TRY_ASSIGN(cgroup_host_, isolation::CgroupHost::detect());
  if (options_.systemd_cgroup) return {};  // the scope needs a process
  isolation::CgroupRequest request;
  request.container_id = create_.id;
  if (spec().linux_config) request.cgroups_path = spec().linux_config->cgroups_path;
  TRY_ASSIGN(cgroup_, isolation::Cgroup::plan(*cgroup_host_, request));
  record_.cgroup = cgroup_->record();
  return {};
}

/// The machine's size and what it costs beside; devices that a hypervisor needs and no others.
oci::Resources Creation::host_resources() const {
  oci::Resources resources = plan_.parts.host;
  resources.memory.emplace().limit = static_cast<int64_t>(plan_.host_limit);
  resources.devices = {device(false, "a", std::nullopt, std::nullopt), device(true, "c", kMiscMajor, kKvmMinor),
                       device(true, "c", kMiscMajor, kTunMinor)};
  return resources;
}

Result<void> Creation::make_gate() {
  gate_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!gate_) return errno_error("make the gate");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder_.get(), runtime::kGateFile);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::bind(gate_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(gate_.get(), 16) != 0) {
    return errno_error("make the gate");
  }
  return {};
}

Result<void> Creation::open_console() {
  if (!spec().process->terminal) {
    if (create_.console_socket.empty()) return {};
    return errorf(ErrorKind::kInvalid, "cannot use console socket if runtime will not allocate a tty");
  }
  const oci::Process& process = *spec().process;
  TRY_ASSIGN(pty_, open_pty(process.console_size ? &*process.console_size : nullptr));
  if (create_.console_socket.empty()) return {};
  TRY(send_master(create_.console_socket, *pty_));
  pty_->master.reset();
  return {};
}

Result<void> Creation::fork_supervisor() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("make a socket pair");
  creator_.reset(pair[0]);
  UniqueFd childs(pair[1]);
  SupervisorPlan plan;
  plan.id = create_.id;
  plan.spec = plan_.parts;
  plan.vm = plan_.vm;
  plan.shares_root = plan_.shares_root;
  plan.emulated = plan_.choice.emulated;
  plan.hypervisor = plan_.choice.hypervisor.get();
  plan.machine = plan_.machine;
  plan.machine_folder = fmt::format("{}/{}/{}", options_.root, create_.id, kMachineFolder);
  plan.user = spec().process->user.username;
  plan.creator = childs.get();
  plan.gate = gate_.get();
  if (pty_) plan.slave = pty_->slave.get();
  plan.network_namespace = network_namespace_.get();
  clone_args arguments{};
  if (cgroup_) {
    TRY_ASSIGN(const isolation::CgroupJoin join, cgroup_->prepare_join());
    plan.cgroup_tasks.assign(join.task_fds.begin(), join.task_fds.begin() + join.task_count);
    if (join.v2_dir_fd >= 0) {
      arguments.flags |= CLONE_INTO_CGROUP;
      arguments.cgroup = static_cast<uint64_t>(join.v2_dir_fd);
    }
  }
  int pidfd = -1;
  arguments.flags |= CLONE_PIDFD;
  arguments.exit_signal = SIGCHLD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return errno_error("start the virtual machine's supervisor");
  if (pid == 0) {
    creator_.reset();  // its own copy of our end would hide our death from it
    supervise(std::move(plan));
  }
  pidfd_.reset(pidfd);
  record_.pid = static_cast<int>(pid);
  gate_.reset();
  if (pty_) pty_->slave.reset();
  const auto stat = sys::process_stat(record_.pid);
  if (!stat) return errorf(ErrorKind::kIo, "the virtual machine's supervisor ended early");
  record_.start_time = stat->start_time;
  if (options_.systemd_cgroup) {
    TRY(make_systemd_cgroup());
  } else {
    TRY(runtime::set_process(record_file_.get(), record_.pid, record_.start_time));
  }
  if (spec().process->oom_score_adj) TRY(runtime::set_oom_score(record_.pid, *spec().process->oom_score_adj, false));
  if (::send(creator_.get(), "g", 1, MSG_NOSIGNAL) != 1) return errno_error("wake the virtual machine's supervisor");
  return {};
}

Result<void> Creation::make_systemd_cgroup() {
  isolation::CgroupRequest request;
  request.container_id = create_.id;
  request.systemd = true;
  if (spec().linux_config) request.cgroups_path = spec().linux_config->cgroups_path;
  const oci::Resources resources = host_resources();
  TRY_ASSIGN(isolation::Cgroup made, isolation::Cgroup::create(*cgroup_host_, request, &resources, record_.pid));
  cgroup_ = std::move(made);
  record_.cgroup = cgroup_->record();
  TRY(runtime::replace_record(folder_.get(), record_, {}));
  return cgroup_->apply_initial(&resources);
}

Result<void> Creation::run_hooks() {
  if (!spec().hooks) return {};
  hooks_ran_ = true;
  runtime::HookPlace place;
  place.folder = plan_.bundle;
  TRY(runtime::run_hooks("prestart", spec().hooks->prestart, runtime::state_document(record_, "created"), place));
  return runtime::run_hooks("createRuntime", spec().hooks->create_runtime, runtime::state_document(record_, "creating"),
                            place);
}

Result<void> Creation::announce() {
  if (!create_.pidfd_socket.empty()) {
    TRY_ASSIGN(const UniqueFd socket, sys::connect_unix(create_.pidfd_socket));
    TRY(sys::send_fds(socket.get(), "pidfd", {pidfd_.get()}));
  }
  if (!create_.pid_file.empty()) TRY(runtime::write_pid_file(create_.pid_file, record_.pid));
  if (::send(creator_.get(), "r", 1, MSG_NOSIGNAL) != 1) {
    return errorf(ErrorKind::kIo, "the virtual machine's supervisor ended early");
  }
  return {};
}

}  // namespace hull::vm
