#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/image_view.h"
#include "engine/index_log.h"
#include "engine/merge.h"
#include "engine/process.h"
#include "engine/runtime_error.h"
#include "engine/user_group.h"
#include "engine/waiters.h"
#include "rootless/rootless.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using monitor::Message;
using monitor::MessageType;

/// The root folder of the upper layer is the workload's "/": it gets what the image's has.
Result<void> copy_root_attributes(const std::string& lower, const std::string& upper) {
  struct stat from{}, to{};
  if (::stat(lower.c_str(), &from) != 0) return errnof("stat {}", lower);
  if (::stat(upper.c_str(), &to) != 0) return errnof("stat {}", upper);
  if ((from.st_uid != to.st_uid || from.st_gid != to.st_gid) && ::chown(upper.c_str(), from.st_uid, from.st_gid) != 0) {
    return errnof("chown {}", upper);
  }
  if ((from.st_mode & 07777) != (to.st_mode & 07777) && ::chmod(upper.c_str(), from.st_mode & 07777) != 0) {
    return errnof("chmod {}", upper);
  }
  return {};
}

}  // namespace

Result<int> EngineImpl::running_pid(std::string_view ref, std::string_view what) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  const RunState state = read_state(paths_, row.id);
  if (state.status != Status::kRunning && state.status != Status::kPaused) {
    return errorf(ErrorKind::kConflict, "{}: container {} is not running", what, row.name);
  }
  return state.pid;
}

Result<void> EngineImpl::prepare_namespaces(const WorkloadRow& row, const Config& config, Prepared* prepared) {
  SpecInput& spec = prepared->spec;
  const auto join = [&](const std::string& mode, std::string_view what, const char* file) -> Result<std::string> {
    const std::string ref = mode.substr(mode.find(':') + 1);
    TRY_ASSIGN(const WorkloadRow other, find(ref));
    if (other.id == row.id) return errorf(ErrorKind::kInvalid, "{}: container can't join its own namespace", what);
    TRY_ASSIGN(const int pid, running_pid(other.id, fmt::format("cannot join {} of a non running container", what)));
    // A descriptor, checked to be of the process that we mean: the pid may be another's by the time it is used.
    auto opened = sys::open(fmt::format("/proc/{}/ns/{}", pid, file), O_RDONLY);
    if (!opened.ok()) return std::move(opened).error();
    const RunState again = read_state(paths_, other.id);
    if (again.pid != pid || process_start_time(pid) != again.start_time) {
      return errorf(ErrorKind::kConflict, "cannot join {} of container {}: it ended", what, other.name);
    }
    const std::string path = fmt::format("/proc/{}/fd/{}", ::getpid(), opened->get());
    prepared->spec_files.push_back(std::move(*opened));
    return path;
  };
  const auto joined = [](const std::string& mode) { return mode.starts_with("container:"); };
  if (config.network == "host") {
    spec.network_namespace = "host";
  } else if (joined(config.network)) {
    TRY_ASSIGN(spec.network_namespace, join(config.network, "network", "net"));
  } else {
    prepared->own_network = has_own_networks(config.network);
    prepared->private_network = true;
  }
  if (config.pid_mode == "host") {
    spec.pid_namespace = "host";
  } else if (joined(config.pid_mode)) {
    TRY_ASSIGN(spec.pid_namespace, join(config.pid_mode, "PID", "pid"));
  }
  if (config.uts_mode == "host") spec.uts_namespace = "host";
  if (config.cgroupns_mode == "host") spec.cgroup_namespace = "host";
  if (config.ipc_mode == "host") {
    spec.ipc_namespace = "host";
    spec.shm_source = "/dev/shm";
  } else if (joined(config.ipc_mode)) {
    TRY_ASSIGN(spec.ipc_namespace, join(config.ipc_mode, "IPC", "ipc"));
    TRY_ASSIGN(const WorkloadRow other, find(config.ipc_mode.substr(10)));
    spec.shm_source = paths_.run_of(other.id) + "/shm";
    if (!sys::exists(spec.shm_source)) {
      return errorf(ErrorKind::kConflict,
                    "cannot join IPC of container {}: non-shareable IPC (hint: use --ipc shareable for the donor "
                    "container)",
                    other.name);
    }
  } else if (config.ipc_mode == "shareable") {
    // Others can only get at a mount of the host's own mount namespace (open_tree refuses those of other ones).
    const std::string shm = paths_.run_of(row.id) + "/shm";
    if (::mkdir(shm.c_str(), 01777) != 0 && errno != EEXIST) return errnof("make folder {}", shm);
    const std::string options = fmt::format("mode=1777,size={}", config.shm_size);
    if (::mount("shm", shm.c_str(), "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, options.c_str()) != 0) {
      return errnof("mount {}", shm);
    }
    spec.shm_source = shm;
  }
  return {};
}

/// The root file system, and who runs in it.
Result<void> EngineImpl::prepare_root(const WorkloadRow& row, const Config& config, const store::Image& image,
                                      Prepared* prepared) {
  SpecInput& spec = prepared->spec;
  spec.rootfs = paths_.empty_root();
  if (::mkdir(spec.rootfs.c_str(), 0700) != 0 && errno != EEXIST) TRY(sys::make_dirs(spec.rootfs));
  if (row.isolation == Isolation::kVm) {
    // Nothing of the image is mounted or read here: the guest stacks the layers and looks the user up.
    spec.vm = true;
    spec.user_text = config.user;
    spec.swap_accounting = false;
    return {};
  }
  TRY_ASSIGN(spec.lower_dirs, images_->lower_dirs(image));
  mark("mount the layers");
  const std::string folder = paths_.workload(row.id);
  spec.upper_dir = folder + "/upper";
  spec.work_dir = folder + "/work";
  if (spec.lower_dirs.empty()) spec.lower_dirs.push_back(spec.rootfs);  // an image of nothing
  spec.swap_accounting = host_has_swap_accounting();
  // What the workload changed in an earlier run counts: then its upper layer is part of the view.
  std::vector<std::string> stack = spec.lower_dirs;
  if (::access((folder + "/upper/etc").c_str(), F_OK) == 0) stack.insert(stack.begin(), spec.upper_dir);
  TRY_ASSIGN(const sys::Root view, open_stack(stack));
  TRY_ASSIGN(spec.user, runtime::resolve_user(view, config.user, config.groups_add));
  return copy_root_attributes(spec.lower_dirs.front(), spec.upper_dir);
}

Result<void> EngineImpl::prepare_mounts(const WorkloadRow& row, const Config& config, Prepared* prepared) {
  TRY_ASSIGN(Index* const names, index());
  for (const MountRequest& mount : config.mounts) {
    SpecInput::ResolvedMount resolved;
    resolved.request = &mount;
    if (mount.type == MountRequest::Type::kVolume) {
      TRY_ASSIGN(const std::optional<VolumeRow> volume, names->volume(mount.source));
      if (!volume) {
        return errorf(ErrorKind::kNotFound, "volume {} of container {} is gone", mount.source, row.name);
      }
      TRY_ASSIGN(resolved.source, volume_path(mount.source));
      const auto options = labels_from_json(volume->options);
      if (const auto o = options.find("o"); o != options.end() && options.contains("device")) {
        resolved.read_only = ("," + o->second + ",").find(",ro,") != std::string::npos;
      }
    } else if (mount.type == MountRequest::Type::kBind) {
      if (mount.create_source && !sys::exists(mount.source)) TRY(sys::make_dirs(mount.source, 0755));
      if (!sys::exists(mount.source)) {
        return errorf(ErrorKind::kInvalid,
                      "invalid mount config for type \"bind\": bind source path does not exist: {}", mount.source);
      }
      resolved.source = mount.source;
    }
    if (row.isolation == Isolation::kVm && !resolved.source.empty()) {
      struct stat info{};
      if (::stat(resolved.source.c_str(), &info) != 0) return errnof("stat {}", resolved.source);
      if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
        return errorf(
            ErrorKind::kUnsupported,
            "-v {}: only files and folders can be shared with a virtual machine; who serves a socket, pipe or "
            "device on this machine can't be reached through it from the guest",
            resolved.source);
      }
    }
    prepared->spec.mounts.push_back(std::move(resolved));
  }
  return {};
}

MonitorRequest EngineImpl::monitor_request(const WorkloadRow& row, const Config& config, bool attach_input) const {
  MonitorRequest request;
  request.program = settings_.libexec + "/hull-monitor";
  request.id = row.id;
  auto& args = request.arguments;
  args = {"--id", row.id};
  if (config.tty) args.emplace_back("--tty");
  if (config.open_stdin) args.emplace_back("--stdin");
  // As Docker's client asks for it: with -i on a foreground run the end of the input is the program's end of input.
  if (config.open_stdin && (config.stdin_once || (attach_input && config.attach_stdin))) {
    args.emplace_back("--stdin-once");
  }
  // A machine's workload is killed by the guest's kernel; its supervisor says so in a file of the same form.
  const std::string cgroup =
      row.isolation == Isolation::kVm ? paths_.oom_file(row.id) : host_cgroup_file(config, settings_, row.id);
  if (!cgroup.empty()) args.insert(args.end(), {"--oom-file", cgroup});
  args.insert(args.end(), {"--cleanup", own_program()});
  request.create_argv = driver(row.isolation).command();
  request.create_argv.insert(request.create_argv.end(), {"--log", "runtime.log", "--log-format", "json"});
  request.create_argv.insert(request.create_argv.end(),
                             {"create", "--bundle", paths_.workload(row.id), "--pid-file", "init.pid"});
  if (config.tty) request.create_argv.insert(request.create_argv.end(), {"--console-socket", "console"});
  request.create_argv.push_back(row.id);
  return request;
}

/// After a failed start: nothing of the run stays, the workload is as it was before.
void EngineImpl::abandon_run(const WorkloadRow& row) {
  ignore_result(driver(row.isolation).remove(row.id));
  ignore_result(detach_networks(row));
  ignore_result(remove_run_folder(row.id));
  clear_run_mark(paths_, row.id);
}

Result<void> EngineImpl::remove_run_folder(const std::string& id) {
  const std::string run = paths_.run_of(id);
  ::umount2((run + "/shm").c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);  // with --ipc shareable
  // Nobody may see it half removed: whoever looks meanwhile (ps, wait) would take the workload for an orphan.
  const std::string ended = paths_.ended(id);
  if (::rename(run.c_str(), ended.c_str()) != 0) {
    if (errno == ENOENT) return {};
    TRY(sys::remove_tree(ended));
    if (::rename(run.c_str(), ended.c_str()) != 0) return errnof("rename {} to {}", run, ended);
  }
  return sys::remove_tree(ended);
}

Result<std::optional<Attachment>> EngineImpl::start_locked(const Change& change, const WorkloadRow& row,
                                                           bool attach_output, bool attach_input,
                                                           const std::optional<RestartRecord>& again) {
  static_cast<void>(change);  // the proof that the caller holds it
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string config_json, names->config(row.id));
  TRY_ASSIGN(Config config, parse_config(config_json));
  if (!config.links.empty()) TRY(add_link_environment(row, &config));
  TRY_ASSIGN(const store::Image image, images_->find(row.image_id));
  Prepared prepared;
  SpecInput& spec_input = prepared.spec;
  spec_input.id = row.id;
  spec_input.config = &config;
  TRY(prepare_root(row, config, image, &prepared));
  spec_input.systemd_cgroup = settings_.cgroup_manager == "systemd";
  spec_input.cgroup_parent = rootless::inside() ? cgroup_parent_of(config, settings_) : settings_.cgroup_parent;
  spec_input.init_program = settings_.libexec + "/hull-monitor";
  if (const auto it = console_sizes_.find(row.id); it != console_sizes_.end()) spec_input.console_size = it->second;

  const std::string run = paths_.run_of(row.id);
  if (::mkdir(run.c_str(), 0700) != 0) {
    if (errno != ENOENT && errno != EEXIST) return errnof("make folder {}", run);
    TRY(sys::make_dirs(run));
  }
  bool of_program = false;  // the error tells of the program itself: its errno becomes the exit code
  const auto program_failure = [&](std::string_view text) {
    of_program = true;
    return start_failure(text, full_command(config));
  };
  const auto go = [&]() -> Result<std::optional<Attachment>> {
    TRY_ASSIGN(UniqueFd lock, take_monitor_lock(paths_, row.id));
    TRY(check_user_limits(config, settings_));
    TRY(enter_user_group(config, settings_));
    TRY(prepare_namespaces(row, config, &prepared));
    TRY(prepare_mounts(row, config, &prepared));
    TRY(prepare_network_files(row, config, &prepared));
    mark("prepare");
    TRY_ASSIGN(const oci::Spec spec, build_spec(spec_input));
    TRY_ASSIGN(const UniqueFd bundle,
               sys::open(paths_.workload(row.id) + "/config.json", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
    TRY(sys::write_all(bundle.get(), oci::to_json(spec)).context("write the bundle"));
    if (row.isolation == Isolation::kVm) TRY(write_vm_json(row, config, image));
    mark("write the specification");

    MonitorRequest request = monitor_request(row, config, attach_input);
    TRY(add_service_options(row, config, spec, again, &request.arguments));
    for (const UniqueFd& kept : prepared.held) request.held.push_back(kept.get());
    if (const int fd = hold_log_index(); fd >= 0) request.held.push_back(fd);
    TRY_ASSIGN(MonitorConnection launched, launch_monitor(paths_, request, std::move(lock)));
    UniqueFd control = std::move(launched.control);
    std::optional<Attachment> attachment;
    Result<void> asked;
    if (attach_output || attach_input) {
      auto streams =
          request_attachment(control.get(), attach_output, attach_input && config.open_stdin, config.tty, true);
      if (streams.ok()) {
        attachment = std::move(*streams);
        Message owns;
        owns.type = MessageType::kOwnsCleanup;
        asked = send_message(control.get(), owns);
      } else {
        asked = std::move(streams).error();
      }
    }
    // A monitor that has failed already does not take what we ask, but it has said why.
    TRY_ASSIGN(const std::optional<Message> created, receive_message(control.get()));
    if (!created) return errorf(ErrorKind::kInternal, "the monitor of container {} ended at once", row.name);
    if (created->type != MessageType::kFailed) TRY(std::move(asked));
    if (created->type == MessageType::kFailed) return program_failure(created->text);
    mark("monitor and runtime create");
    serve_waiters(paths_, row.id, config.tty, config.open_stdin);
    const int pid = created->a;
    if (prepared.private_network) {
      TRY_ASSIGN(const UniqueFd netns, sys::open(fmt::format("/proc/{}/ns/net", pid), O_RDONLY));
      if (prepared.own_network) {
        TRY(attach_networks(row, config, netns.get(), pid, {launched.pid, monitor::kFirstUnusedFd}));
      } else {
        TRY(net::NetworkManager::loopback_up(netns.get()));
      }
      mark("network");
    }
    const int64_t started_ns = now_ns();
    // Before the gate opens: a program that ends at once must not be seen as never started.
    if (!row.auto_remove) TRY(write_run_mark(paths_, row.id, started_ns));
    TRY(write_started(paths_, row.id, pid, started_ns));
    Message started;
    started.type = MessageType::kStarted;
    started.time_ns = started_ns;
    TRY(send_message(control.get(), started));
    auto opened = driver(row.isolation).start(row.id);
    if (!opened.ok()) {
      started.type = MessageType::kAbort;  // no policy starts again what never ran
      ignore_result(send_message(control.get(), started));
      return program_failure(opened.error().message());
    }
    emit_mounts(row, config);
    if (attachment) emit_workload(row, "attach");
    emit_workload(row, "start");
    mark("runtime start");
    if (attachment) primaries_.insert_or_assign(row.id, std::move(control));
    return attachment;
  };
  auto outcome = go();
  if (outcome.ok()) return outcome;
  abandon_run(row);
  if (of_program) return outcome;
  return Error(outcome.error().kind(), outcome.error().message(), outcome.error().where());
}

Result<std::optional<Attachment>> EngineImpl::start(std::string_view ref, bool attach_output, bool attach_input) {
  reset_clock();
  TRY_ASSIGN(const WorkloadRow found, find(ref));
  TRY_ASSIGN(const Change change, Change::begin(paths_, found.id));
  // Again under the lock: it may have been removed or started meanwhile.
  TRY_ASSIGN(const WorkloadRow row, find(found.id));
  RunState state = read_state(paths_, row.id);
  if (state.status == Status::kRunning || state.status == Status::kPaused) {
    if (state.status == Status::kPaused) {
      return errorf(ErrorKind::kConflict, "cannot start a paused container, try unpause instead");
    }
    if (!attach_output && !attach_input) return std::optional<Attachment>();
    TRY_ASSIGN(Attachment attachment, attach(row.id, attach_input));
    return std::optional<Attachment>(std::move(attachment));
  }
  if (state.status == Status::kRestarting) {
    if (auto waiting = connect_monitor(paths_, row.id); waiting.ok()) {
      Message abort;
      abort.type = MessageType::kAbort;
      ignore_result(send_message(waiting->get(), abort));
    }
  }
  if (state.needs_cleanup || state.status == Status::kRestarting) {
    TRY(cleanup_locked(change, row));
    if (row.auto_remove) return errorf(ErrorKind::kNotFound, "No such container: {} (it ended and was removed)", ref);
  }
  if (!state.needs_cleanup && state.status == Status::kCreated && monitor_alive(paths_, row.id)) {
    TRY_ASSIGN(const bool runs, end_cut_start(row));
    if (runs) return errorf(ErrorKind::kConflict, "container {} was being started by another command", row.name);
  }
  if (!row.auto_remove) forget_restarts(paths_, row.id);
  mark("lock the workload");
  auto started = start_locked(change, row, attach_output, attach_input);
  if (!started.ok() && row.auto_remove) ignore_result(remove_locked(change, row, true));
  return started;
}

Result<Attachment> EngineImpl::attach(std::string_view ref, bool input) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  const RunState state = read_state(paths_, row.id);
  if (state.status == Status::kPaused) {
    return errorf(ErrorKind::kConflict, "You cannot attach to a paused container, unpause it first");
  }
  if (state.status != Status::kRunning) {
    return errorf(ErrorKind::kConflict, "You cannot attach to a stopped container, start it first");
  }
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string config_json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(config_json));
  TRY_ASSIGN(const UniqueFd control, connect_monitor(paths_, row.id));
  TRY_ASSIGN(Attachment attachment,
             request_attachment(control.get(), true, input && config.open_stdin, config.tty, false));
  emit_workload(row, "attach");
  return attachment;
}

Result<void> EngineImpl::resize(std::string_view ref, oci::Box size) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  Message message;
  message.type = MessageType::kResize;
  message.a = static_cast<int32_t>(size.height);
  message.b = static_cast<int32_t>(size.width);
  if (const auto it = primaries_.find(row.id); it != primaries_.end()) {
    TRY(send_message(it->second.get(), message));
  } else {
    TRY_ASSIGN(const UniqueFd control, connect_monitor(paths_, row.id));
    TRY(send_message(control.get(), message));
  }
  emit_workload(row, "resize", {{"height", std::to_string(size.height)}, {"width", std::to_string(size.width)}});
  return {};
}

}  // namespace hull::engine
