#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/process.h"
#include "engine/validate.h"
#include "engine/waiters.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using monitor::Message;
using monitor::MessageType;

constexpr int kDefaultStopTimeout = 10;
/// What a machine may take to write its disk back after its workload was killed, before it is killed itself.
constexpr int kGuestEndMs = 15'000;

}  // namespace

Result<void> EngineImpl::kill(std::string_view ref, std::string_view signal_text) {
  TRY_ASSIGN(const int signal, parse_signal(signal_text.empty() ? "KILL" : signal_text));
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  if (state.status != Status::kRunning && state.status != Status::kPaused) {
    return errorf(ErrorKind::kConflict, "cannot kill container: {}: container {} is not running", ref, row.id);
  }
  if (state.status == Status::kPaused && signal != SIGKILL) {
    return errorf(ErrorKind::kConflict, "container {} is paused. Unpause the container before stopping or killing",
                  row.id);
  }
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const Config config, config_of(*names, row.id));
  const int stop_signal = parse_signal(config.stop_signal.empty() ? "SIGTERM" : config.stop_signal).value_or(SIGTERM);
  // What is meant to end it is the user's will against the policy's; SIGHUP and the like are for the program to read.
  const bool ends =
      signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGQUIT || signal == stop_signal;
  if (ends && config.restart.restarts()) TRY(mark_stopped(paths_, row.id, true));
  TRY(driver(row.isolation).signal(row.id, state, signal));
  emit_workload(row, "kill", {{"signal", std::to_string(signal)}});
  if (state.status == Status::kPaused) TRY(unpause(row.id));  // a frozen process dies when it is thawed
  return {};
}

/// The signal, the wait, the kill. Holds no lock while it waits.
Result<void> EngineImpl::end_process(const WorkloadRow& row, const RunState& state, const std::optional<int>& grace_s,
                                     int signal) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, state.pid, 0)));
  if (!pidfd.valid() || process_start_time(state.pid) != state.start_time) return {};
  const auto wait_ms = [&](int limit_ms) {
    pollfd watched = {pidfd.get(), POLLIN, 0};
    const auto began = std::chrono::steady_clock::now();
    for (;;) {
      const auto passed =
          std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
      const int left = limit_ms < 0 ? -1 : static_cast<int>(std::max<int64_t>(0, limit_ms - passed.count()));
      const int ready = ::poll(&watched, 1, left);
      if (ready > 0) return true;
      if (ready == 0) return false;
      if (errno != EINTR) return false;
    }
  };
  bool ended = false;
  if (!(grace_s && *grace_s == 0)) {
    // A machine that hangs takes no signal: it gets no time either.
    const auto sent = driver(row.isolation).signal(row.id, state, signal);
    if (!sent.ok() && sent.error().kind() != ErrorKind::kTimeout) return sent;
    emit_workload(row, "kill", {{"signal", std::to_string(signal)}});
    ended = sent.ok() && wait_ms(!grace_s || *grace_s < 0 ? -1 : *grace_s * 1000);
  }
  if (ended) return {};
  emit_workload(row, "kill", {{"signal", std::to_string(SIGKILL)}});
  // A guest whose workload is killed writes its disk back; where that is to be removed, nobody needs it.
  if (row.isolation == Isolation::kVm && signal != SIGKILL) {
    ignore_result(driver(row.isolation).signal(row.id, state, SIGKILL));
    ended = wait_ms(kGuestEndMs);
  }
  if (!ended) ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  if (!ended && !wait_ms(30'000)) {
    return errorf(ErrorKind::kTimeout,
                  "container {} did not end within 30 seconds of being killed: its process "
                  "{} hangs in the kernel",
                  row.name, state.pid);
  }
  return {};
}

/// Ends a running workload, or its wait to be started again. On return the run has ended and was cleaned up; *removed
/// tells that --rm took the workload away.
Result<void> EngineImpl::end_run(const WorkloadRow& row, const std::optional<int>& grace_s, int signal, bool for_good,
                                 bool* removed) {
  // Before anything else: an end that comes by itself now must not start it again either.
  if (!row.auto_remove) TRY(mark_stopped(paths_, row.id, for_good));
  // A restart that was under way gets through; what it started is ended in the next round.
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; ++round) {
    RunState state = read_state(paths_, row.id);
    if (state.status == Status::kPaused) {
      TRY(unpause(row.id));
      state = read_state(paths_, row.id);
    }
    UniqueFd control;
    if (state.status == Status::kRunning) {
      auto connected = connect_monitor(paths_, row.id);
      if (connected.ok()) {
        control = std::move(*connected);
        ignore_result(tell(control.get(), MessageType::kOwnsCleanup));
      }
      TRY(end_process(row, state, grace_s, signal));
      // The monitor has the exit code; wait for its record.
      if (control) {
        TRY_ASSIGN([[maybe_unused]] const auto record, await_exit(control.get()));
      }
    } else if (state.status == Status::kRestarting) {
      // Its monitor goes, and leaves the rest to this command.
      if (auto connected = connect_monitor(paths_, row.id); connected.ok()) {
        ignore_result(tell(connected->get(), MessageType::kAbort));
      }
    }
    TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
    TRY_ASSIGN(Index* const names, index());
    TRY_ASSIGN(const std::optional<WorkloadRow> again, names->by_id(row.id));
    if (!again) {
      *removed = true;
      return {};
    }
    state = read_state(paths_, row.id);
    if (state.status == Status::kRunning || state.status == Status::kPaused) continue;
    if (state.needs_cleanup || state.status == Status::kRestarting) {
      TRY(cleanup_locked(change, *again));
      *removed = again->auto_remove;
    }
    if (control) ignore_result(tell(control.get(), MessageType::kCleaned));
    return {};
  }
  return errorf(ErrorKind::kConflict, "container {} was started again {} times while it was stopped", row.name,
                kRounds);
}

Result<void> EngineImpl::stop(std::string_view ref, std::optional<int> timeout_s, std::string_view signal_text) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  const RunState state = read_state(paths_, row.id);
  if (!is_live(state.status) && !state.orphaned && !state.restart_lost) return {};
  TRY(stop_run(row, timeout_s, signal_text, true));
  emit_workload(row, "stop");
  return {};
}

Result<void> EngineImpl::stop_run(const WorkloadRow& row, std::optional<int> timeout_s, std::string_view signal_text,
                                  bool for_good) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const Config config, config_of(*names, row.id));
  std::string name(signal_text);
  if (name.empty()) name = config.stop_signal.empty() ? "SIGTERM" : config.stop_signal;
  TRY_ASSIGN(const int signal, parse_signal(name));
  const int grace = timeout_s.value_or(config.stop_timeout_s.value_or(kDefaultStopTimeout));
  bool removed = false;
  return end_run(row, grace, signal, for_good, &removed);
}

Result<void> EngineImpl::restart(std::string_view ref, std::optional<int> timeout_s, std::string_view signal) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  if (is_live(state.status)) {
    if (row.auto_remove) {
      return errorf(ErrorKind::kConflict, "container {} was started with --rm: stopping it removes it", row.name);
    }
    // Not for good: killed in between, it is still one that should run.
    TRY(stop_run(row, timeout_s, signal, false));
    emit_workload(row, "stop");
  }
  TRY_ASSIGN([[maybe_unused]] const auto attachment, start(row.id, false, false));
  emit_workload(row, "restart");
  return {};
}

Result<void> EngineImpl::pause(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
  const RunState state = read_state(paths_, row.id);
  if (state.status == Status::kPaused) return errorf(ErrorKind::kConflict, "container {} is already paused", row.id);
  if (state.status != Status::kRunning) return errorf(ErrorKind::kConflict, "container {} is not running", row.id);
  TRY(driver(row.isolation).pause(row.id));
  TRY_ASSIGN([[maybe_unused]] const UniqueFd mark_file,
             sys::open(paths_.run_of(row.id) + "/paused", O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  emit_workload(row, "pause");
  return {};
}

Result<void> EngineImpl::unpause(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
  const RunState state = read_state(paths_, row.id);
  if (state.status != Status::kPaused) return errorf(ErrorKind::kConflict, "container {} is not paused", row.id);
  TRY(driver(row.isolation).resume(row.id));
  ::unlink((paths_.run_of(row.id) + "/paused").c_str());
  emit_workload(row, "unpause");
  return {};
}

Result<void> EngineImpl::cleanup_locked(const Change& change, const WorkloadRow& row) {
  const RunState state = read_state(paths_, row.id);
  if (state.status == Status::kRunning || state.status == Status::kPaused) return {};  // started again meanwhile
  // One that waits to be started again is only cleaned up by who takes that over.
  if (!state.needs_cleanup && state.status != Status::kRestarting) return {};
  // The cgroup goes, and with it whatever an orphaned run left behind.
  TRY(driver(row.isolation).remove(row.id));
  TRY(detach_networks(row));
  ExitRecord record;
  if (state.exit) {
    record = *state.exit;
  } else if (state.started_ns != 0) {
    record.code = 137;
    record.signal = SIGKILL;
    record.started_ns = state.started_ns;
    record.finished_ns = now_ns();
    record.error = "the monitor of the container was killed";
  }
  if (record.started_ns != 0) emit_end(row, record);
  emit_unmounts(row);
  if (row.auto_remove) return remove_locked(change, row, true);
  if (record.finished_ns != 0) TRY(write_exit(paths_, row.id, record));
  if (!row.ports.empty()) {
    TRY_ASSIGN(Index* const names, index());
    TRY(names->set_ports(row.id, ""));
  }
  clear_run_mark(paths_, row.id);
  keep_health(row.id);
  return remove_run_folder(row.id);
}

Result<void> EngineImpl::cleanup(std::string_view id) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const Change change, Change::begin(paths_, id));
  TRY_ASSIGN(const std::optional<WorkloadRow> row, names->by_id(id));
  if (!row) {
    // Removed while its monitor was at work: nobody else will ever look for what the runtime made.
    for (const Isolation kind : {Isolation::kContainer, Isolation::kVm})
      ignore_result(driver(kind).remove(std::string(id)));
    remove_stray_cgroups(*names, std::string(id));
    return remove_run_folder(std::string(id));
  }
  return cleanup_locked(change, *row);
}

Result<void> EngineImpl::remove_locked(const Change& change, const WorkloadRow& row, bool volumes) {
  static_cast<void>(change);
  TRY_ASSIGN(Index* const names, index());
  // A removal that is cut off is finished by the next command; what runs with --rm says so itself.
  if (!row.auto_remove) TRY(names->set_removing(row.id));
  std::vector<std::string> used;
  if (volumes) {
    TRY_ASSIGN(used, names->volumes_of(row.id));
  }
  TRY(remove_run_folder(row.id));
  TRY(sys::remove_tree(paths_.workload(row.id)).context("remove the files of the container"));
  TRY(images_->release(row.id));
  TRY(names->remove(row.id));
  forget_waiters(paths_, row.id);
  primaries_.erase(row.id);
  for (const std::string& name : used) {
    TRY_ASSIGN(const std::optional<VolumeRow> volume, names->volume(name));
    if (volume && volume->anonymous && volume->references == 0) ignore_result(delete_volume(*names, name));
  }
  emit_workload(row, "destroy");
  return {};
}

Result<void> EngineImpl::remove(std::string_view ref, bool force, bool volumes) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  // Its policy, or another command, may start it again between the end and the removal.
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; ++round) {
    RunState state = read_state(paths_, row.id);
    if (is_live(state.status)) {
      if (!force) {
        return errorf(ErrorKind::kConflict,
                      "cannot remove container \"{}\": container is {}: stop the container before removing or force "
                      "remove",
                      row.name, to_string(state.status));
      }
      bool removed = false;
      TRY(end_run(row, 0, SIGKILL, true, &removed));
      if (removed) return {};
    }
    TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
    TRY_ASSIGN(Index* const names, index());
    TRY_ASSIGN(const std::optional<WorkloadRow> again, names->by_id(row.id));
    if (!again) return {};
    state = read_state(paths_, row.id);
    if (is_live(state.status)) continue;
    if (state.needs_cleanup) {
      TRY(cleanup_locked(change, *again));
      if (again->auto_remove) return {};
    } else if (monitor_alive(paths_, again->id)) {
      TRY_ASSIGN(const bool runs, end_cut_start(*again));
      if (runs) continue;
    }
    return remove_locked(change, *again, volumes);
  }
  return errorf(ErrorKind::kConflict, "cannot remove container \"{}\": it was started again {} times", row.name,
                kRounds);
}

Result<ExitInfo> EngineImpl::finish_wait(const WorkloadRow& row, std::optional<ExitRecord> record, int control) {
  // Its policy starts it again: the end of this run is not the workload's.
  if (record && record->restarts) return ExitInfo{record->code, record->oom_killed, record->error};
  // This process started it and promised to clean up.
  TRY_ASSIGN(const Change change, Change::begin(paths_, row.id));
  if (!record) {
    record.emplace();
    record->code = 137;
    record->error = "the monitor of the container was killed";
  }
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::optional<WorkloadRow> again, names->by_id(row.id));
  if (again) TRY(cleanup_locked(change, *again));
  ignore_result(tell(control, MessageType::kCleaned));
  return ExitInfo{record->code, record->oom_killed, record->error};
}

Result<ExitInfo> EngineImpl::wait(std::string_view ref, std::string_view condition) {
  if (const auto it = primaries_.find(ref); it != primaries_.end()) {
    const UniqueFd control = std::move(it->second);
    primaries_.erase(it);
    WorkloadRow row;
    row.id = std::string(ref);
    TRY_ASSIGN(const std::optional<ExitRecord> record, await_exit(control.get()));
    reset_clock();
    auto info = finish_wait(row, record, control.get());
    mark("clean up");
    return info;
  }
  TRY_ASSIGN(const std::unique_ptr<PendingWait> pending, begin_wait(ref, condition));
  return pending->finish();
}

}  // namespace hull::engine
