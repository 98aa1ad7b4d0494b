#include "runtime/launch.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "isolation/intel_rdt.h"
#include "isolation/namespaces.h"
#include "isolation/process_attributes.h"
#include "runtime/hooks.h"
#include "runtime/launch_parts.h"
#include "runtime/mount_plan.h"
#include "runtime/notify.h"
#include "runtime/process_plan.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {

Launch::~Launch() {
  if (released_) return;
  if (pidfd_) {
    ignore_result(sys::pidfd_signal(pidfd_.get(), SIGKILL));
    channel_.close();
    while (::waitpid(record_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (cgroup_) {
    ignore_result(cgroup_->kill_all(SIGKILL));
    auto removed = cgroup_->remove();
    if (!removed.ok()) log_warning("{}", removed.error().message());
  }
  if (hooks_ran_ && spec_.hooks) {
    auto ran = run_hooks("poststop", spec_.hooks->poststop, state_document(record_, "stopped"));
    if (!ran.ok()) log_warning("{}", ran.error().message());
  }
  if (reserved_) ignore_result(sys::remove_tree(options_.root + "/" + create_.id));
}

Result<void> Launch::load() {
  if (loaded_) return {};
  TRY_ASSIGN(bundle_, absolute_folder(create_.bundle));
  TRY_ASSIGN(spec_, load_spec(bundle_, create_.config));
  if (!spec_.process) {
    // A container may be created without one; only start needs it (config.md, "Process").
    spec_.process.emplace();
    spec_.process->args.emplace_back();
    spec_.process->cwd.push_back('/');
  }
  if (create_.listen_fds > 0) {
    spec_.process->env.push_back(fmt::format("LISTEN_FDS={}", create_.listen_fds));
    spec_.process->env.emplace_back("LISTEN_PID=1");
  }
  if (!create_.notify_socket.empty()) add_notify(&spec_, options_.root + "/" + create_.id);
  loaded_ = true;
  return {};
}

Result<void> Launch::make(child::Gate gate, int console) {
  TRY(load());
  TRY(reserve());
  TRY(plan_cgroup());
  TRY(compile_filter());
  TRY(make_record());
  // The v2 folder first: the child is cloned into it. The v1 folders are made while the child makes its namespaces.
  if (cgroup_) {
    auto made = cgroup_->make(2);
    if (!made.ok()) {
      cgroup_.reset();
      return made;
    }
  }
  TRY(plan(gate, console));
  if (gate == child::Gate::kListener) TRY(make_gate());
  TRY(clone_child());
  TRY(make_cgroup());
  TRY(set_from_outside());
  quiet_ = gate == child::Gate::kSocket && !create_.detach && !spec_.process->terminal && !spec_.hooks &&
           !plan_.report_setup && !filter_.needs_listener && create_.notify_socket.empty();
  if (quiet_) {
    TRY(announce());
    auto opened = channel_.answer();
    if (opened.ok() || opened.error().error_number() == EPIPE) return {};
    return opened;
  }
  TRY(follow_to_gate());
  return announce();
}

Result<void> Launch::failure() {
  for (;;) {
    TRY_ASSIGN(const std::optional<child::Report> report, channel_.next());
    if (!report) return {};
    if (report->kind == child::Kind::kFailed) return explain(*report, messages());
  }
}

Result<void> Launch::reserve() {
  if (create_.id.empty()) return errorf(ErrorKind::kInvalid, "container id cannot be empty");
  if (!valid_id(create_.id)) {
    return errorf(ErrorKind::kInvalid, "invalid container id \"{:.100}\": 1 to 1024 of letters, digits, _ + . -",
                  create_.id);
  }
  const std::string path = options_.root + "/" + create_.id;
  if (::mkdir(path.c_str(), 0700) != 0) {
    if (errno == ENOENT) {
      TRY(sys::make_dirs(options_.root, 0700));
      if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return errnof("make {}", path);
    } else if (errno == EEXIST) {
      return errorf(ErrorKind::kExists, "container with id exists: {}", create_.id);
    } else {
      return errnof("make {}", path);
    }
  }
  reserved_ = true;
  TRY_ASSIGN(folder_, sys::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  // As it says, so that a umask takes nothing from the program.
  if (!create_.notify_socket.empty() &&
      (::mkdirat(folder_.get(), kNotifyFolder, 0755) != 0 || ::fchmodat(folder_.get(), kNotifyFolder, 0755, 0) != 0)) {
    return errnof("make {}/{}", path, kNotifyFolder);
  }
  record_.id = create_.id;
  record_.bundle = bundle_;
  if (create_.config != "config.json") record_.config = create_.config;
  record_.oci_version = spec_.version;
  record_.created = format_rfc3339(std::chrono::system_clock::now());
  record_.annotations = spec_.annotations;
  record_.terminal = spec_.process->terminal;
  record_.program = spec_.process->args.empty() ? "" : spec_.process->args[0];
  record_.rootless = options_.rootless.value_or(::geteuid() != 0);
  record_.systemd_cgroup = options_.systemd_cgroup;
  TRY_ASSIGN(record_.rootfs, resolve_rootfs(spec_, bundle_));
  if (spec_.linux_config) {
    const isolation::NamespaceFlags flags = isolation::namespace_flags(spec_.linux_config->namespaces);
    record_.namespaces = flags.fresh | flags.joined;
  }
  if (spec_.linux_config && spec_.linux_config->seccomp) {
    record_.listener_path = spec_.linux_config->seccomp->listener_path;
    record_.listener_metadata = spec_.linux_config->seccomp->listener_metadata;
  }
  if (spec_.hooks) {
    record_.start_container = spec_.hooks->start_container;
    record_.poststart = spec_.hooks->poststart;
    record_.poststop = spec_.hooks->poststop;
  }
  return {};
}

Result<void> Launch::plan_cgroup() {
  const oci::Linux* linux_config = spec_.linux_config ? &*spec_.linux_config : nullptr;
  const bool asks = linux_config != nullptr && (linux_config->resources || !linux_config->cgroups_path.empty());
  auto host = isolation::CgroupHost::detect();
  if (!host.ok()) {
    if (asks && !record_.rootless) return std::move(host).error();
    return {};
  }
  cgroup_host_ = std::move(*host);
  if (options_.systemd_cgroup) return {};  // the scope needs a process: see make_cgroup
  isolation::CgroupRequest request;
  request.container_id = create_.id;
  if (linux_config != nullptr) request.cgroups_path = linux_config->cgroups_path;
  request.tolerate_permission = record_.rootless;
  auto planned = isolation::Cgroup::plan(*cgroup_host_, request);
  if (!planned.ok()) {
    if (record_.rootless && (linux_config == nullptr || linux_config->cgroups_path.empty())) return {};
    return std::move(planned).error();
  }
  // None where this user may make one: the container stays in its creator's, and has none of its own.
  if (record_.rootless && planned->folders().empty()) return {};
  cgroup_ = std::move(*planned);
  record_.cgroup = cgroup_->record();
  return {};
}

Result<void> Launch::compile_filter() {
  if (!spec_.linux_config || !spec_.linux_config->seccomp) return {};
  auto filter = isolation::load_seccomp(*spec_.linux_config->seccomp, filter_cache(options_));
  if (!filter.ok()) return std::move(filter).error().context("linux.seccomp");
  filter_ = std::move(*filter);
  return {};
}

Result<void> Launch::make_record() {
  TRY_ASSIGN(record_file_, create_record(folder_.get(), record_, filter_));
  return {};
}

/// While the child makes its namespaces: the rest of its control group, the limits, and the way in.
Result<void> Launch::make_cgroup() {
  if (!plan_.wait_cgroup) return {};
  const oci::Resources* resources =
      spec_.linux_config && spec_.linux_config->resources ? &*spec_.linux_config->resources : nullptr;
  if (options_.systemd_cgroup) {
    isolation::CgroupRequest request;
    request.container_id = create_.id;
    request.systemd = true;
    if (spec_.linux_config) request.cgroups_path = spec_.linux_config->cgroups_path;
    TRY_ASSIGN(isolation::Cgroup made, isolation::Cgroup::create(*cgroup_host_, request, resources, record_.pid));
    cgroup_ = std::move(made);
    record_.cgroup = cgroup_->record();
    TRY(replace_record(folder_.get(), record_, filter_));
    TRY(cgroup_->apply_initial(resources));
    return channel_.answer();
  }
  auto made = cgroup_->make(1);
  if (!made.ok()) {
    // What make() did is undone; the rest may be somebody else's and is not ours to clear.
    const isolation::Cgroup::Folder* unified = cgroup_->unified();
    ignore_result(sys::pidfd_signal(pidfd_.get(), SIGKILL));
    while (::waitpid(record_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    pidfd_.reset();
    if (unified != nullptr) ::rmdir(unified->full_path().c_str());
    cgroup_.reset();
    return made;
  }
  TRY(cgroup_->apply_initial(resources));
  TRY_ASSIGN(const isolation::CgroupJoin join, cgroup_->prepare_join());
  auto sent = sys::send_fds(channel_.fd(), "c",
                            std::vector<int>(join.task_fds.begin(), join.task_fds.begin() + join.task_count));
  // A child that has failed already tells why: its report is read next.
  if (!sent.ok() && sent.error().error_number() == EPIPE) return {};
  return sent;
}

Result<void> Launch::plan(child::Gate gate, int console) {
  TRY_ASSIGN(channel_, Channel::make(child_end_));
  plan_.report_fd = child_end_.get();
  plan_.gate = gate;
  TRY_ASSIGN(UniqueFd proc, open_proc());
  plan_.proc_fd = proc.get();
  fds_.push_back(std::move(proc));
  TRY(plan_namespaces());
  TRY(plan_system());

  ProcessContext context;
  context.container_id = create_.id;
  context.own_user_namespace = new_user_namespace_ || joined_user_namespace_;
  context.deny_setgroups = new_user_namespace_ && must_deny_setgroups(maps_);
  context.new_keyring = !create_.no_new_keyring;
  context.preserve_fds = static_cast<unsigned>(create_.preserve_fds + create_.listen_fds);
  context.console_socket = console;
  context.filter = &filter_;
  TRY(plan_process(*spec_.process, context, arena_, plan_.process));
  TRY(plan_machine(spec_, arena_, plan_.process));
  // Podman's --group-add keep-groups, in crun's words.
  const auto keep = spec_.annotations.find("run.oci.keep_original_groups");
  if (keep != spec_.annotations.end() && keep->second == "1") {
    plan_.process.identity.set_groups = false;
    plan_.clear_groups = false;
  }

  if (!plan_.new_mount_namespace) {
    plan_.root_path = arena_.text(record_.rootfs);
    return {};
  }
  MountContext mounts;
  mounts.bundle = bundle_;
  mounts.prepare = can_mount();
  mounts.user_namespace = context.own_user_namespace;
  mounts.make_nodes = !context.own_user_namespace && in_initial_user_namespace();
  mounts.cgroup_namespace = plan_.new_cgroup_namespace;
  mounts.cgroup_host = cgroup_host_ ? &*cgroup_host_ : nullptr;
  mounts.cgroup = cgroup_ ? &*cgroup_ : nullptr;
  mounts.maps = maps_;
  return plan_mounts(spec_, mounts, arena_, fds_, plan_);
}

Result<void> Launch::plan_namespaces() {
  if (!spec_.linux_config) return {};
  const oci::Linux& linux_config = *spec_.linux_config;
  const isolation::NamespaceFlags flags = isolation::namespace_flags(linux_config.namespaces);
  maps_ = {linux_config.uid_mappings, linux_config.gid_mappings};
  new_user_namespace_ = (flags.fresh & CLONE_NEWUSER) != 0;
  joined_user_namespace_ = (flags.joined & CLONE_NEWUSER) != 0;

  std::vector<child::JoinStep> joins;
  for (const oci::Namespace& entry : linux_config.namespaces) {
    if (entry.path.empty()) continue;
    auto opened = open_namespace(entry);
    if (!opened.ok()) return std::move(opened).error();
    const auto type = static_cast<int>(isolation::clone_flag(entry.type));
    if (entry.type == oci::NamespaceType::kPid && !joined_user_namespace_) {
      pid_namespace_ = std::move(*opened);
      continue;
    }
    fds_.push_back(std::move(*opened));
    const child::JoinStep join{fds_.back().get(), type};
    // The user namespace first: the others may need the rights that it gives.
    if (type == CLONE_NEWUSER)
      joins.insert(joins.begin(), join);
    else
      joins.push_back(join);
  }
  plan_.joins = arena_.copy(joins);

  constexpr uint64_t kMakeInside = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;
  plan_.unshare = flags.fresh & kMakeInside;
  clone_flags_ = flags.fresh & (CLONE_NEWPID | CLONE_NEWUSER);
  if (joined_user_namespace_ && ((flags.fresh | flags.joined) & CLONE_NEWPID) != 0) {
    plan_.stage = true;
    plan_.clone_flags = flags.fresh & CLONE_NEWPID;
    clone_flags_ = 0;
  }
  if ((flags.fresh & CLONE_NEWTIME) != 0) {
    plan_.unshare |= CLONE_NEWTIME;
    plan_.time_offsets = arena_.text(isolation::time_offsets_text(linux_config.time_offsets));
  }
  plan_.new_cgroup_namespace = (flags.fresh & CLONE_NEWCGROUP) != 0;
  plan_.wait_maps = new_user_namespace_;
  plan_.become_root = new_user_namespace_ || joined_user_namespace_;
  plan_.clear_groups = plan_.become_root && !(new_user_namespace_ && must_deny_setgroups(maps_));
  plan_.loopback = (flags.fresh & CLONE_NEWNET) != 0;
  plan_.new_mount_namespace = ((flags.fresh | flags.joined) & CLONE_NEWNS) != 0;
  // Others live in a mount namespace that was joined: their root must not move.
  plan_.pivot = !create_.no_pivot && (flags.joined & CLONE_NEWNS) == 0;
  return {};
}

Result<void> Launch::plan_system() {
  if (!spec_.hostname.empty()) plan_.hostname = arena_.text(spec_.hostname);
  if (!spec_.domainname.empty() && spec_.linux_config) {
    const auto sysctl = spec_.linux_config->sysctl.find("kernel.domainname");
    if (sysctl != spec_.linux_config->sysctl.end() && sysctl->second != spec_.domainname) {
      return errorf(ErrorKind::kInvalid,
                    "domainname \"{}\" and the sysctl kernel.domainname \"{}\" contradict each other", spec_.domainname,
                    sysctl->second);
    }
  }
  if (!spec_.domainname.empty()) plan_.domainname = arena_.text(spec_.domainname);
  if (spec_.linux_config) {
    std::vector<child::WriteStep> sysctls;
    for (const auto& [name, value] : spec_.linux_config->sysctl) {
      TRY_ASSIGN(const std::string path, isolation::sysctl_path(name));
      sysctls.push_back({arena_.text("sys/" + path), arena_.text(value), value.size(), nullptr});
    }
    plan_.sysctls = arena_.copy(sysctls);
  }
  plan_.report_setup = (spec_.hooks && (!spec_.hooks->prestart.empty() || !spec_.hooks->create_runtime.empty())) ||
                       (spec_.linux_config && !spec_.linux_config->net_devices.empty());
  plan_.report_pivot = spec_.hooks && !spec_.hooks->create_container.empty();
  plan_.wait_cgroup = cgroup_.has_value() || (options_.systemd_cgroup && cgroup_host_.has_value());
  if (cgroup_ && cgroup_->unified() != nullptr) {
    TRY_ASSIGN(cgroup_fd_, cgroup_->unified()->dir_fd());
  }
  return {};
}

Result<void> Launch::make_gate() {
  UniqueFd gate(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!gate) return errno_error("make the gate");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder_.get(), kGateFile);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::bind(gate.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(gate.get(), 16) != 0) {
    return errno_error("make the gate");
  }
  plan_.gate_fd = gate.get();
  fds_.push_back(std::move(gate));
  return {};
}

Result<void> Launch::clone_child() {
  // The child is as we are: not dumpable, so that nobody in a namespace that it joins can look into it.
  if (can_mount()) ::prctl(PR_SET_DUMPABLE, 0);
  if (pid_namespace_ && ::setns(pid_namespace_.get(), CLONE_NEWPID) != 0) return errno_error("join the pid namespace");
  clone_args arguments{};
  arguments.flags = clone_flags_ | CLONE_PIDFD;
  arguments.exit_signal = SIGCHLD;
  int pidfd = -1;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  if (cgroup_fd_ >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<uint64_t>(cgroup_fd_);
  }
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return errno_error("clone the container process");
  if (pid == 0) child::run_container(plan_);
  pidfd_.reset(pidfd);
  record_.pid = static_cast<int>(pid);
  child_end_.reset();
  fds_.clear();
  if (new_user_namespace_) {
    TRY(write_id_maps(record_.pid, maps_, nullptr));
    TRY(channel_.answer());
  }
  if (plan_.stage) TRY(take_stage());
  const auto stat = sys::process_stat(record_.pid);
  if (!stat) return errorf(ErrorKind::kIo, "the container process ended early");
  record_.start_time = stat->start_time;
  return set_process(record_file_.get(), record_.pid, record_.start_time);
}

Result<void> Launch::take_stage() {
  TRY_ASSIGN(const std::optional<child::Report> report, channel_.next());
  if (!report) return errorf(ErrorKind::kIo, "the container process ended early");
  if (report->kind == child::Kind::kFailed) return explain(*report, messages());
  const pid_t stage = record_.pid;
  record_.pid = static_cast<int>(report->index);
  TRY_ASSIGN(pidfd_, sys::pidfd_open(record_.pid));
  while (::waitpid(stage, nullptr, 0) < 0 && errno == EINTR) {
  }
  return channel_.answer();
}

/// What the child can't do itself: limits and scores that need the host's rights.
Result<void> Launch::set_from_outside() {
  if (spec_.process->oom_score_adj) TRY(set_oom_score(record_.pid, *spec_.process->oom_score_adj, record_.rootless));
  if (new_user_namespace_ || joined_user_namespace_) TRY(apply_rlimits(spec_.process->rlimits, record_.pid));
  if (spec_.linux_config && spec_.linux_config->intel_rdt) {
    TRY_ASSIGN(const isolation::IntelRdtGroup group,
               isolation::IntelRdtGroup::create(*spec_.linux_config->intel_rdt, create_.id, isolation::kResctrlRoot));
    record_.rdt_path = group.path();
    record_.rdt_monitor_path = group.monitor_path();
    record_.rdt_made_here = group.made_here();
    TRY(replace_record(folder_.get(), record_, filter_));
    TRY(group.join(record_.pid));
  }
  return {};
}

Result<void> Launch::follow_to_gate() {
  for (;;) {
    TRY_ASSIGN(const std::optional<child::Report> report, channel_.next());
    if (!report) return errorf(ErrorKind::kIo, "the container process was killed while it was set up");
    switch (report->kind) {
      case child::Kind::kFailed:
        return explain(*report, messages());
      case child::Kind::kAtSetup:
        TRY(run_setup_hooks());
        TRY(channel_.answer());
        break;
      case child::Kind::kAtPivot:
        TRY(run_pivot_hooks());
        TRY(channel_.answer());
        break;
      case child::Kind::kReady:
        return {};
      default:
        return errorf(ErrorKind::kInternal, "report {} out of turn", static_cast<int>(report->kind));
    }
  }
}

Result<void> Launch::run_setup_hooks() {
  if (spec_.linux_config) TRY(move_net_devices(spec_.linux_config->net_devices, record_.pid));
  if (!spec_.hooks) return {};
  hooks_ran_ = true;
  // The old prestart hooks are told "created", as crun and the specification's test suite have it.
  HookPlace place;
  place.folder = bundle_;
  TRY(run_hooks("prestart", spec_.hooks->prestart, state_document(record_, "created"), place));
  return run_hooks("createRuntime", spec_.hooks->create_runtime, state_document(record_, "creating"), place);
}

Result<void> Launch::run_pivot_hooks() {
  hooks_ran_ = true;
  // The child's root is still the host's tree, in the container's mount namespace.
  TRY_ASSIGN(const UniqueFd root, sys::open(fmt::format("/proc/{}/root", record_.pid), O_PATH | O_DIRECTORY));
  HookPlace place;
  place.pidfd = pidfd_.get();
  place.namespaces = static_cast<int>(record_.namespaces);
  place.join_pid = true;
  place.root_fd = root.get();
  place.folder = bundle_;
  return run_hooks("createContainer", spec_.hooks->create_container, state_document(record_, "creating"), place);
}

Result<void> Launch::announce() {
  if (!create_.pidfd_socket.empty()) {
    TRY_ASSIGN(const UniqueFd socket, sys::connect_unix(create_.pidfd_socket));
    TRY(sys::send_fds(socket.get(), "pidfd", {pidfd_.get()}));
  }
  if (!create_.pid_file.empty()) TRY(write_pid_file(create_.pid_file, record_.pid));
  if (plan_.gate == child::Gate::kListener) TRY(channel_.answer());
  return {};
}

Result<void> Launch::go() {
  TRY(channel_.answer());
  ListenerTarget target{record_.listener_path, record_.listener_metadata, state_document(record_, "running"),
                        record_.pid};
  return follow_exec(channel_, pidfd_.get(), target, messages());
}

}  // namespace hull::runtime
