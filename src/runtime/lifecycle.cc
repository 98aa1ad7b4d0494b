// What is done to a container that exists: kill, delete, pause, resume, update, and the questions asked about it.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/log.h"
#include "isolation/intel_rdt.h"
#include "oci/json_writer.h"
#include "runtime/hooks.h"
#include "runtime/launch.h"
#include "runtime/record.h"
#include "runtime/runtime.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {
namespace {

struct Opened {
  UniqueFd folder;
  Record record;
  Status status = Status::kStopped;
};

Result<Opened> open(const Options& options, const std::string& id) {
  Opened opened;
  TRY_ASSIGN(opened.folder, open_container(options.root, id));
  TRY_ASSIGN(opened.record, read_record(opened.folder.get(), id));
  opened.status = status_of(opened.folder.get(), opened.record);
  return opened;
}

Result<isolation::Cgroup> open_cgroup(const Record& record) {
  if (record.cgroup.empty()) return errorf(ErrorKind::kUnsupported, "container {} has no cgroup", record.id);
  return isolation::Cgroup::open(record.cgroup);
}

/// The owner's name from /etc/passwd, read by hand: getpwuid would load plug-ins into a static program.
std::string owner_name(uid_t uid) {
  auto passwd = sys::read_file("/etc/passwd", 1 << 20);
  if (passwd.ok()) {
    const std::string wanted = fmt::format(":{}:", uid);
    size_t at = 0;
    while (at < passwd->size()) {
      const size_t end = std::min(passwd->find('\n', at), passwd->size());
      const std::string_view line = std::string_view(*passwd).substr(at, end - at);
      const size_t name_end = line.find(':');
      const size_t password_end = name_end == std::string_view::npos ? name_end : line.find(':', name_end + 1);
      if (password_end != std::string_view::npos && line.substr(password_end).starts_with(wanted)) {
        return std::string(line.substr(0, name_end));
      }
      at = end + 1;
    }
  }
  return fmt::format("#{}", uid);
}

ContainerInfo info_of(const Opened& opened) {
  ContainerInfo info;
  Status status = opened.status;
  if (status == Status::kRunning && is_paused(opened.record)) status = Status::kPaused;
  info.state = state_document(opened.record, to_string(status));
  if (!opened.record.oci_version.empty()) info.state.version = opened.record.oci_version;
  if (status == Status::kStopped) info.state.pid = 0;
  info.rootfs = opened.record.rootfs;
  info.created = opened.record.created;
  struct stat folder{};
  if (::fstat(opened.folder.get(), &folder) == 0) info.owner = owner_name(folder.st_uid);
  return info;
}

/// Everything that a container without a living first process leaves.
Result<void> sweep(const Options& options, const Record& record, isolation::Cgroup* known_cgroup) {
  Result<void> outcome;
  std::optional<isolation::Cgroup> opened;
  if (known_cgroup == nullptr && !record.cgroup.empty()) {
    auto cgroup = open_cgroup(record);
    if (cgroup.ok()) {
      opened = std::move(*cgroup);
      known_cgroup = &*opened;
    } else {
      log_warning("{}", cgroup.error().message());
    }
  }
  if (known_cgroup != nullptr) {
    // Without a pid namespace of its own others may live on; with one the kernel has ended them. A create that was
    // killed before it wrote the pid down may have left a first process that nobody else knows of.
    if ((record.namespaces & CLONE_NEWPID) == 0 || record.pid == 0) {
      ignore_result(known_cgroup->thaw());
      ignore_result(known_cgroup->kill_all(SIGKILL));
    }
    outcome = known_cgroup->remove();
  }
  if (!record.rdt_path.empty()) {
    auto removed =
        isolation::IntelRdtGroup::from_record(record.rdt_path, record.rdt_monitor_path, record.rdt_made_here).remove();
    if (!removed.ok()) log_warning("{}", removed.error().message());
  }
  TRY(std::move(outcome));
  TRY(sys::remove_tree(options.root + "/" + record.id));
  auto hooks = run_hooks("poststop", record.poststop, state_document(record, "stopped"));
  // Logged, never an error (runtime.md, step 13).
  if (!hooks.ok()) log_warning("{}", hooks.error().message());
  return {};
}

void wait_for_end(int pidfd, int limit_ms) {
  pollfd wait{pidfd, POLLIN, 0};
  while (::poll(&wait, 1, limit_ms) < 0 && errno == EINTR) {
  }
}

}  // namespace

Result<void> remove_stopped(Launch& launch, const Options& options) {
  return sweep(options, launch.record(), launch.cgroup() ? &*launch.cgroup() : nullptr);
}

Result<void> Runtime::kill(const std::string& id, int signal, bool all) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY(require_container(opened.record.vm.has_value(), id));
  const bool shares_pids = (opened.record.namespaces & CLONE_NEWPID) == 0;
  if (opened.status == Status::kStopped) {
    if (all && !opened.record.cgroup.empty()) {
      auto cgroup = open_cgroup(opened.record);
      if (cgroup.ok()) return cgroup->kill_all(signal);
    }
    return errorf(ErrorKind::kConflict, "container not running");
  }
  if (all || (shares_pids && signal == SIGKILL)) {
    auto cgroup = open_cgroup(opened.record);
    if (cgroup.ok()) {
      TRY(cgroup->kill_all(signal));
      if (!all) ignore_result(cgroup->thaw());
      return {};
    }
    if (all) return std::move(cgroup).error();
  }
  TRY_ASSIGN(const UniqueFd pidfd, sys::pidfd_open(opened.record.pid));
  // The pid may have been taken by another process between the look and the opening.
  if (!sys::is_alive(opened.record.pid, opened.record.start_time)) {
    return errorf(ErrorKind::kConflict, "container not running");
  }
  auto sent = sys::pidfd_signal(pidfd.get(), signal);
  if (!sent.ok()) {
    if (sent.error().error_number() == ESRCH) return errorf(ErrorKind::kConflict, "container not running");
    return sent;
  }
  if (signal == SIGKILL && is_paused(opened.record)) {
    // A frozen process takes no signal, not even this one, on cgroup v1.
    auto cgroup = open_cgroup(opened.record);
    if (cgroup.ok()) ignore_result(cgroup->thaw());
  }
  return {};
}

Result<void> Runtime::remove(const std::string& id, bool force) {
  auto found = open(options_, id);
  if (!found.ok()) {
    if (force && found.error().kind() == ErrorKind::kNotFound) return {};
    if (force && found.error().kind() == ErrorKind::kCorrupt) return sys::remove_tree(options_.root + "/" + id);
    return std::move(found).error();
  }
  Opened& opened = *found;
  if (opened.status != Status::kStopped) {
    if (!force) {
      const Status shown = is_paused(opened.record) ? Status::kPaused : opened.status;
      return errorf(ErrorKind::kConflict, "cannot delete container {} that is not stopped: {}", id, to_string(shown));
    }
    auto pidfd = sys::pidfd_open(opened.record.pid);
    if (pidfd.ok() && sys::is_alive(opened.record.pid, opened.record.start_time)) {
      ignore_result(sys::pidfd_signal(pidfd->get(), SIGKILL));
      if (is_paused(opened.record)) {
        auto cgroup = open_cgroup(opened.record);
        if (cgroup.ok()) ignore_result(cgroup->thaw());
      }
      constexpr int kLimitMs = 10000;
      wait_for_end(pidfd->get(), kLimitMs);
    }
  }
  return sweep(options_, opened.record, nullptr);
}

Result<ContainerInfo> Runtime::state(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  return info_of(opened);
}

Result<std::vector<ContainerInfo>> Runtime::list() {
  std::vector<ContainerInfo> found;
  DIR* stream = ::opendir(options_.root.c_str());
  if (stream == nullptr) {
    if (errno == ENOENT) return found;
    return errnof("read {}", options_.root);
  }
  std::vector<std::string> ids;
  while (const dirent* entry = ::readdir(stream)) {
    if (valid_id(entry->d_name)) ids.emplace_back(entry->d_name);
  }
  ::closedir(stream);
  std::sort(ids.begin(), ids.end());
  for (const std::string& id : ids) {
    auto opened = open(options_, id);
    if (!opened.ok()) {
      // Deleted since the folder was read, or not ours.
      if (opened.error().kind() != ErrorKind::kNotFound) log_warning("{}", opened.error().message());
      continue;
    }
    found.push_back(info_of(*opened));
  }
  return found;
}

Result<void> Runtime::pause(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  if (opened.status != Status::kRunning && opened.status != Status::kCreated) {
    return errorf(ErrorKind::kConflict, "container not running: cannot pause container {}", id);
  }
  TRY_ASSIGN(isolation::Cgroup cgroup, open_cgroup(opened.record));
  return cgroup.freeze();
}

Result<void> Runtime::resume(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY(require_container(opened.record.vm.has_value(), id));
  TRY_ASSIGN(isolation::Cgroup cgroup, open_cgroup(opened.record));
  TRY_ASSIGN(const bool frozen, cgroup.frozen());
  if (opened.status == Status::kStopped || !frozen) {
    return errorf(ErrorKind::kConflict, "container not paused: cannot resume container {}", id);
  }
  return cgroup.thaw();
}

Result<void> Runtime::update(const std::string& id, const oci::Resources& resources) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY(require_container(opened.record.vm.has_value(), id));
  if (opened.status == Status::kStopped) return errorf(ErrorKind::kConflict, "container not running");
  TRY_ASSIGN(isolation::Cgroup cgroup, open_cgroup(opened.record));
  return cgroup.apply(resources);
}

Result<std::vector<int>> Runtime::processes(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY_ASSIGN(const isolation::Cgroup cgroup, open_cgroup(opened.record));
  TRY_ASSIGN(const std::vector<pid_t> pids, cgroup.processes());
  return std::vector<int>(pids.begin(), pids.end());
}

Result<void> Runtime::check(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  return require_container(opened.record.vm.has_value(), id);
}

Result<std::optional<std::string>> Runtime::process_table(const std::string& id, const std::vector<std::string>&) {
  TRY(check(id));
  return std::optional<std::string>();
}

Result<std::string> Runtime::stats(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY(require_container(opened.record.vm.has_value(), id));
  if (opened.status == Status::kStopped) {
    return errorf(ErrorKind::kConflict, "container with id {} is not running", id);
  }
  TRY_ASSIGN(const isolation::Cgroup cgroup, open_cgroup(opened.record));
  TRY_ASSIGN(const isolation::CgroupStats stats, cgroup.stats());
  oci::JsonWriter head;
  head.object([&] {
    head.member("type", "stats");
    head.member("id", id);
  });
  std::string text = std::move(head).take();
  text.pop_back();
  return text + ",\"data\":" + isolation::stats_json(stats) + "}";
}

Result<oci::Process> Runtime::default_process(const std::string& id) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY_ASSIGN(const oci::Spec spec, load_spec(opened.record.bundle, opened.record.config));
  if (!spec.process) return errorf(ErrorKind::kInvalid, "config.json: process is missing");
  return *spec.process;
}

Result<std::string> Runtime::cgroup_folder(const std::string& id, std::string_view controller) {
  TRY_ASSIGN(const Opened opened, open(options_, id));
  TRY_ASSIGN(const isolation::Cgroup cgroup, open_cgroup(opened.record));
  const isolation::Cgroup::Folder* folder = cgroup.find(controller);
  return folder == nullptr ? std::string() : folder->mount_path + "/" + folder->path;
}

}  // namespace hull::runtime
