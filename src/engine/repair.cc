// What killed commands and monitors leave, put right by the next command.
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/log.h"
#include "engine/engine_impl.h"
#include "engine/process.h"
#include "sys/file.h"

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

Result<void> EngineImpl::repair_locked(const Change& change, Index& index) {
  const std::string& id = change.id();
  TRY_ASSIGN(const std::optional<WorkloadRow> row, index.by_id(id));
  if (!row) {
    // Killed while it was made, or after it was taken off the record.
    ignore_result(runtime_.remove(id));
    TRY(sys::remove_tree(paths_.run_of(id)));
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
    if (row->auto_remove && !sys::exists(paths_.workload(id) + "/rootfs")) return remove_locked(change, *row, true);
    return {};
  }
  const RunState state = read_state(paths_, id);
  if (state.needs_cleanup) return cleanup_locked(change, *row);
  if (state.status == Status::kRunning || state.status == Status::kPaused) return {};
  // The starter was killed. Its monitor sees that and ends the run; it must be gone before what it made is.
  auto control = connect_monitor(paths_, id);
  if (control.ok()) {
    monitor::Message abort;
    abort.type = monitor::MessageType::kAbort;
    ignore_result(send_message(control->get(), abort));
    ignore_result(await_exit(control->get()));
  }
  const RunState after = read_state(paths_, id);
  if (after.status == Status::kRunning) return {};
  ignore_result(runtime_.remove(id));
  abandon_run(*row);
  if (row->auto_remove) return remove_locked(change, *row, true);
  return {};
}

Result<WorkloadRow> EngineImpl::find(std::string_view ref) {
  TRY_ASSIGN(Index* const names, index());
  return names->find(ref);
}

Result<RunState> EngineImpl::settled_state(const WorkloadRow& row) {
  RunState state = read_state(paths_, row.id);
  if (!state.orphaned) return state;
  TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
  state = read_state(paths_, row.id);
  if (!state.orphaned) return state;
  TRY(cleanup_locked(change, row));
  return read_state(paths_, row.id);
}

}  // namespace hull::engine
