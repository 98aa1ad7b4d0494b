// What should run after a boot: start_all and stop_all, in the order of dependencies.
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "engine/dependencies.h"
#include "engine/engine_impl.h"
#include "engine/health.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// What a dependency may take to become healthy before the others are started all the same.
constexpr int kHealthWaitMs = 300'000;

std::string resume_mark(const Paths& paths, std::string_view id) { return paths.workload(id) + "/resume"; }

/// Waits until the workload is healthy; false when it is unhealthy, ends, or takes too long.
bool await_healthy(const Paths& paths, const std::string& id) {
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch || ::inotify_add_watch(watch.get(), paths.run_of(id).c_str(), IN_MOVED_TO | IN_MOVE_SELF) < 0)
    return false;
  const auto began = std::chrono::steady_clock::now();
  for (;;) {
    if (read_state(paths, id).status != Status::kRunning) return false;
    const std::string status = read_health_status(paths, id);
    if (status == "healthy" || status.empty()) return true;
    if (status == "unhealthy") return false;
    const auto passed =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began).count();
    if (passed >= kHealthWaitMs) return false;
    pollfd watched = {watch.get(), POLLIN, 0};
    ::poll(&watched, 1, static_cast<int>(kHealthWaitMs - passed));
    char events[4096];
    while (::read(watch.get(), events, sizeof events) > 0) {
    }
  }
}

}  // namespace

bool EngineImpl::should_run(const WorkloadRow& row, const Config& config, const RunState& state) const {
  if (row.removing || !config.restart.restarts() || is_live(state.status)) return false;
  const bool ran_before = state.exit.has_value() || state.needs_cleanup;
  if (!ran_before) return false;
  if (config.restart.name == "always") return true;
  if (was_stopped(paths_, row.id)) return false;
  if (config.restart.name == "unless-stopped") return true;
  return state.needs_cleanup || sys::exists(resume_mark(paths_, row.id));
}

Result<std::vector<EngineImpl::Service>> EngineImpl::services() {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::vector<WorkloadRow> rows, names->list());
  std::vector<Service> all;
  std::vector<DependencyNode> nodes;
  for (auto it = rows.rbegin(); it != rows.rend(); ++it) {  // oldest first
    TRY_ASSIGN(Config config, config_of(*names, it->id));
    nodes.push_back({it->id, it->name, dependencies_of(config), config.labels});
    all.push_back({*it, std::move(config), {}});
  }
  std::vector<Service> ordered;
  ordered.reserve(all.size());
  for (const OrderedNode& node : order_by_dependency(nodes)) {
    Service& service = all[node.index];
    service.waits = node.waits;
    ordered.push_back(std::move(service));
  }
  return ordered;
}

Result<int> EngineImpl::start_all(bool pretend, const ServiceSink& sink) {
  TRY_ASSIGN(const std::vector<Service> all, services());
  int failures = 0;
  for (const Service& service : all) {
    const WorkloadRow& row = service.row;
    if (!should_run(row, service.config, read_state(paths_, row.id))) continue;
    ServiceStep step{row.id, row.name, true, {}};
    if (!pretend) {
      for (const DependencyWait& wait : service.waits) {
        if (wait.condition == "service_healthy") {
          if (!await_healthy(paths_, wait.id)) step.problem = fmt::format("{} did not become healthy", wait.name);
        } else if (wait.condition == "service_completed_successfully") {
          const auto ended = this->wait(wait.id, "not-running");
          if (!ended.ok() || ended->code != 0) step.problem = fmt::format("{} did not complete", wait.name);
        }
      }
      // Named for systemd's journal; the workload is started all the same: it may cope, and its policy is to run.
      const auto started = start(row.id, false, false);
      if (!started.ok()) {
        step.done = false;
        step.problem = started.error().message();
        ++failures;
      } else {
        ::unlink(resume_mark(paths_, row.id).c_str());
      }
    }
    sink(step);
  }
  return failures;
}

Result<int> EngineImpl::stop_all(std::optional<int> timeout_s, const ServiceSink& sink) {
  TRY_ASSIGN(std::vector<Service> all, services());
  std::reverse(all.begin(), all.end());
  int failures = 0;
  for (const Service& service : all) {
    const WorkloadRow& row = service.row;
    if (!is_live(read_state(paths_, row.id).status)) continue;
    ServiceStep step{row.id, row.name, true, {}};
    if (service.config.restart.name == "on-failure") {
      TRY(sys::open(resume_mark(paths_, row.id), O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
    }
    const auto stopped = stop_run(row, timeout_s, "", false);
    if (stopped.ok()) {
      emit_workload(row, "stop");
    } else {
      step.done = false;
      step.problem = stopped.error().message();
      ++failures;
    }
    sink(step);
  }
  return failures;
}

}  // namespace hull::engine
