// Waits and attachments that begin before the run that they are about.
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/waiters.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using monitor::Message;
using monitor::MessageType;

bool runs(const RunState& state) { return state.status == Status::kRunning || state.status == Status::kPaused; }

/// A monitor is there and its run has not ended: the workload runs or is about to.
bool in_a_run(const Paths& paths, std::string_view id) {
  return !sys::exists(paths.run_of(id) + "/exit") && monitor_alive(paths, id);
}

class ReadyAttach : public PendingAttach {
 public:
  explicit ReadyAttach(Attachment streams) : streams_(std::move(streams)) {}
  int fd() const override { return -1; }
  Result<Attachment> take() override { return std::move(streams_); }

 private:
  Attachment streams_;
};

class LaterAttach : public PendingAttach {
 public:
  explicit LaterAttach(Waiter waiter) : waiter_(std::move(waiter)) {}
  int fd() const override { return waiter_.fd(); }
  Result<Attachment> take() override { return waiter_.take(); }

 private:
  Waiter waiter_;
};

}  // namespace

/// Tells when the folder of a workload is removed.
class EngineImpl::RemovedWatch {
 public:
  static Result<RemovedWatch> start(std::string folder) {
    RemovedWatch out;
    out.fd_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!out.fd_) return errno_error("make a watch");
    ::inotify_add_watch(out.fd_.get(), folder.c_str(), IN_DELETE_SELF | IN_ONLYDIR);
    out.folder_ = std::move(folder);
    return out;
  }
  int fd() const { return fd_.get(); }
  bool removed() const {
    char events[4096];
    while (::read(fd_.get(), events, sizeof events) > 0) {
    }
    return !sys::exists(folder_);
  }

 private:
  UniqueFd fd_;
  std::string folder_;
};

class EngineImpl::RunWait : public PendingWait {
 public:
  RunWait(EngineImpl& engine, WorkloadRow row, bool until_removed)
      : engine_(engine), row_(std::move(row)), until_removed_(until_removed) {}

  Result<void> begin(bool next) {
    TRY_ASSIGN(RemovedWatch watch, RemovedWatch::start(engine_.paths_.workload(row_.id)));
    removed_.emplace(std::move(watch));
    RunState state = read_state(engine_.paths_, row_.id);
    if (runs(state)) {
      if (connect()) return {};
      state = read_state(engine_.paths_, row_.id);  // it ended in between, and has left its record
    }
    note(state);
    if (state.orphaned) {
      TRY_ASSIGN(const RunState settled, engine_.settled_state(row_));
      note(settled);
    }
    // One that has just ended and is to be removed is on its way out.
    const bool leaving = until_removed_ && row_.auto_remove && state.needs_cleanup;
    if (!next || leaving) {
      ended_ = true;
      return {};
    }
    return look_out();
  }

  Result<ExitInfo> finish() override {
    while (!ended_) {
      if (waiter_) {
        std::array<pollfd, 2> waits = {pollfd{waiter_->fd(), POLLIN, 0}, pollfd{removed_->fd(), POLLIN, 0}};
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return errno_error("wait for the container");
        if (waits[0].revents != 0) {
          auto got = waiter_->take();
          waiter_.reset();
          if (got.ok()) {
            take_control(std::move(got->control));
          } else {
            TRY(look_out());
          }
        } else if (waits[1].revents != 0 && removed_->removed()) {
          return info_;
        }
        continue;
      }
      TRY_ASSIGN(const std::optional<ExitRecord> record, await_exit(control_.get()));
      if (record) {
        ended_ = true;
        info_ = {record->code, record->oom_killed, record->error};
        if (owns_) TRY(clean_up());
        continue;
      }
      TRY(after_silence());
    }
    if (until_removed_) {
      while (!removed_->removed()) {
        pollfd wait = {removed_->fd(), POLLIN, 0};
        if (::poll(&wait, 1, -1) < 0 && errno != EINTR) return errno_error("wait for the removal");
      }
    }
    return info_;
  }

 private:
  void note(const RunState& state) {
    if (state.exit) info_ = {state.exit->code, state.exit->oom_killed, state.exit->error};
  }
  void take_control(UniqueFd control) {
    control_ = std::move(control);
    // Nobody starts what is removed at its end again, so its clean-up may as well be done here.
    owns_ = until_removed_ && row_.auto_remove && tell(control_.get(), MessageType::kOwnsCleanup).ok();
  }
  bool connect() {
    auto control = connect_monitor(engine_.paths_, row_.id);
    if (control.ok()) take_control(std::move(*control));
    return control.ok();
  }
  /// Waits for the next start, unless it is under way.
  Result<void> look_out() {
    TRY_ASSIGN(Waiter waiter, Waiter::leave(engine_.paths_, row_.id, Waiter::Kind::kWait, false));
    if (in_a_run(engine_.paths_, row_.id) && connect()) return {};
    waiter_.emplace(std::move(waiter));
    return {};
  }
  /// The monitor went away without telling an end: it was killed, or the start failed.
  Result<void> after_silence() {
    control_.reset();
    RunState state = read_state(engine_.paths_, row_.id);
    if (state.orphaned) {
      TRY_ASSIGN(state, engine_.settled_state(row_));
    }
    note(state);
    ended_ = state.status == Status::kExited || state.status == Status::kDead || removed_->removed();
    return ended_ ? Result<void>() : look_out();
  }
  Result<void> clean_up() {
    {
      TRY_ASSIGN(const Change change, Change::begin(engine_.paths_, row_.id));
      TRY_ASSIGN(Index* const names, engine_.index());
      TRY_ASSIGN(const std::optional<WorkloadRow> again, names->by_id(row_.id));
      if (again) TRY(engine_.cleanup_locked(change, *again));
    }
    ignore_result(tell(control_.get(), MessageType::kCleaned));
    return {};
  }

  EngineImpl& engine_;
  const WorkloadRow row_;
  const bool until_removed_;
  bool ended_ = false, owns_ = false;
  UniqueFd control_;
  std::optional<Waiter> waiter_;
  std::optional<RemovedWatch> removed_;
  ExitInfo info_;
};

Result<std::unique_ptr<PendingWait>> EngineImpl::begin_wait(std::string_view ref, std::string_view condition) {
  if (!condition.empty() && condition != "not-running" && condition != "next-exit" && condition != "removed") {
    return errorf(ErrorKind::kInvalid, "invalid condition: \"{}\"", condition);
  }
  TRY_ASSIGN(WorkloadRow row, find(ref));
  auto wait = std::make_unique<RunWait>(*this, std::move(row), condition == "removed");
  TRY(wait->begin(condition == "next-exit" || condition == "removed"));
  return std::unique_ptr<PendingWait>(std::move(wait));
}

Result<std::unique_ptr<PendingAttach>> EngineImpl::begin_attach(std::string_view ref, bool input) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  const RunState state = read_state(paths_, row.id);
  if (runs(state)) {
    TRY_ASSIGN(Attachment streams, attach(row.id, input));
    return std::unique_ptr<PendingAttach>(std::make_unique<ReadyAttach>(std::move(streams)));
  }
  TRY_ASSIGN(Waiter waiter, Waiter::leave(paths_, row.id, Waiter::Kind::kAttach, input));
  // The start may have looked for waiters before this one was there.
  if (in_a_run(paths_, row.id)) {
    if (auto control = connect_monitor(paths_, row.id); control.ok()) {
      TRY_ASSIGN(Index* const names, index());
      TRY_ASSIGN(const std::string config_json, names->config(row.id));
      TRY_ASSIGN(const Config config, parse_config(config_json));
      TRY_ASSIGN(Attachment streams,
                 request_attachment(control->get(), true, input && config.open_stdin, config.tty, true));
      return std::unique_ptr<PendingAttach>(std::make_unique<ReadyAttach>(std::move(streams)));
    }
  }
  return std::unique_ptr<PendingAttach>(std::make_unique<LaterAttach>(std::move(waiter)));
}

}  // namespace hull::engine
