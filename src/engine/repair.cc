// What killed commands and monitors leave, put right by the next command.
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/process.h"
#include "engine/user_group.h"
#include "isolation/cgroup.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::engine {

void EngineImpl::sweep_changes(Index& index) {
  for (const std::string& id : changes_on_record(paths_)) {
    auto change = Change::begin(paths_, id, false);
    if (!change.ok()) continue;  // somebody is at it
    auto repaired = repair_locked(*change, index);
    if (!repaired.ok())
      log_warning("container {}: clean up after a killed command: {}", id, repaired.error().message());
  }
}

void EngineImpl::remove_stray_cgroups(Index& index, const std::string& id) {
  Config config;
  if (const auto json = index.config(id); json.ok()) {
    if (auto parsed = parse_config(*json); parsed.ok()) config = std::move(*parsed);
  }
  const std::string parent = cgroup_parent_of(config, settings_);
  if (parent.empty()) return;
  auto host = isolation::CgroupHost::detect();
  if (!host.ok()) return;
  for (const isolation::CgroupMount& mount : host->mounts()) {
    const std::string folder = mount.path + "/" + parent + "/" + id;
    if (::rmdir(folder.c_str()) == 0 || errno != EBUSY) continue;
    const auto members = sys::read_file(folder + "/cgroup.procs", 1 << 20).value_or("");
    std::vector<UniqueFd> dying;
    for (size_t at = 0, end = 0; (end = members.find('\n', at)) != std::string::npos; at = end + 1) {
      const auto pid = parse_int(std::string_view(members).substr(at, end - at), 2, 1 << 30);
      if (!pid.ok()) continue;
      dying.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(*pid), 0)));
      if (dying.back()) ::syscall(SYS_pidfd_send_signal, dying.back().get(), SIGKILL, nullptr, 0);
    }
    for (const UniqueFd& fd : dying) {
      pollfd watched = {fd.get(), POLLIN, 0};
      ::poll(&watched, 1, 5000);
    }
    // A group counts those who have just ended for a moment longer.
    constexpr int kAttempts = 200;
    for (int attempt = 0; attempt < kAttempts && ::rmdir(folder.c_str()) != 0 && errno == EBUSY; ++attempt) {
      ::poll(nullptr, 0, 10);
    }
  }
}

Result<void> EngineImpl::repair_locked(const Change& change, Index& index) {
  const std::string& id = change.id();
  TRY(sys::remove_tree(paths_.ended(id)));
  TRY_ASSIGN(const std::optional<WorkloadRow> row, index.by_id(id));
  if (!row) {
    // Killed while it was made, or after it was taken off the record.
    for (const Isolation kind : {Isolation::kContainer, Isolation::kVm}) ignore_result(driver(kind).remove(id));
    remove_stray_cgroups(index, id);
    TRY(remove_run_folder(id));
    TRY(sys::remove_tree(paths_.workload(id)));
    TRY(images_->release(id));
    for (const std::string& volume : change.notes()) {
      TRY_ASSIGN(const std::optional<VolumeRow> known, index.volume(volume));
      if (known && known->anonymous && known->references == 0) TRY(delete_volume(index, volume));
      if (!known && is_workload_id(volume)) TRY(sys::remove_tree(paths_.volumes() + "/" + volume));
    }
    return {};
  }
  if (row->removing) return remove_locked(change, *row, false);
  struct stat info{};
  if (::stat(paths_.run_of(id).c_str(), &info) != 0) {
    const std::vector<std::string> notes = change.notes();
    if (std::find(notes.begin(), notes.end(), "restart") != notes.end()) {
      RunState lost;
      lost.restart_lost = true;
      revive(*row, lost);
      return {};
    }
    if (row->auto_remove && !has_files(*row)) return remove_locked(change, *row, true);
    return {};
  }
  RunState state = read_state(paths_, id);
  // Killed between the end of one run and the start of the next.
  const std::vector<std::string> notes = change.notes();
  if (std::find(notes.begin(), notes.end(), "restart") != notes.end()) state.restart_lost = true;
  if (state.needs_cleanup) {
    if (state.orphaned) {
      ignore_result(driver(row->isolation).remove(id));
      remove_stray_cgroups(index, id);
    }
    TRY(cleanup_locked(change, *row));
    revive(*row, state);
    return {};
  }
  if (state.status == Status::kRunning) {
    // The starter may have been killed just before it opened the gate; where it is open this is an error that says so.
    ignore_result(driver(row->isolation).start(id));
    return {};
  }
  if (is_live(state.status)) return {};
  TRY_ASSIGN(const bool runs, end_cut_start(*row));
  if (runs) return {};
  remove_stray_cgroups(index, id);
  if (row->auto_remove) return remove_locked(change, *row, true);
  return {};
}

/// With the change held: a start whose command was killed. Its monitor sees that and ends the run; it must be gone
/// before what it made is. True when it got through all the same.
Result<bool> EngineImpl::end_cut_start(const WorkloadRow& row) {
  if (auto control = connect_monitor(paths_, row.id); control.ok()) {
    monitor::Message abort;
    abort.type = monitor::MessageType::kAbort;
    ignore_result(send_message(control->get(), abort));
    ignore_result(await_exit(control->get()));
  }
  if (is_live(read_state(paths_, row.id).status)) return true;
  abandon_run(row);
  return false;
}

Result<WorkloadRow> EngineImpl::find(std::string_view ref) {
  TRY_ASSIGN(Index* const names, index());
  return names->find(ref);
}

Result<RunState> EngineImpl::settled_state(const WorkloadRow& row) {
  RunState state = read_state(paths_, row.id);
  if (!state.orphaned && !state.restart_lost) return state;
  TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
  state = read_state(paths_, row.id);
  if (!state.orphaned && !state.restart_lost) return state;
  const RunState lost = state;
  TRY(cleanup_locked(change, row));
  state = read_state(paths_, row.id);
  revive(row, lost);
  return state;
}

}  // namespace hull::engine
