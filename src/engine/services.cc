// What keeps services running: what a monitor is told, restarts, health.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/health.h"
#include "engine/host.h"
#include "engine/process.h"
#include "engine/validate.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// Docker's defaults where neither the image nor the user says anything.
constexpr int64_t kDefaultIntervalNs = 30'000'000'000, kDefaultStartIntervalNs = 5'000'000'000;
constexpr int kDefaultRetries = 3;
constexpr int kDefaultStopSeconds = 10;

std::string milliseconds(int64_t ns, int64_t fallback_ns) {
  return std::to_string(std::max<int64_t>(1, (ns == 0 ? fallback_ns : ns) / 1'000'000));
}

std::vector<std::string> health_command(const oci::HealthConfig& health) {
  if (health.test.front() == "CMD-SHELL") return {"/bin/sh", "-c", health.test.size() > 1 ? health.test[1] : ""};
  return {health.test.begin() + 1, health.test.end()};
}

}  // namespace

Result<Config> EngineImpl::config_of(Index& index, std::string_view id) {
  TRY_ASSIGN(const std::string json, index.config(id));
  return parse_config(json);
}

std::string EngineImpl::log_path(const std::string& id, LogDriver driver) const {
  if (driver == LogDriver::kJsonFile) return paths_.workload(id) + "/" + id + "-json.log";
  if (driver == LogDriver::kLocal) return paths_.workload(id) + "/" + id + ".log";
  return {};
}

Result<void> EngineImpl::add_log_options(const WorkloadRow& row, const Config& config,
                                         std::vector<std::string>* args) const {
  TRY_ASSIGN(const LogConfig log, log_config(config, log_defaults()));
  if (log.driver == LogDriver::kNone) return {};
  const auto add = [&](std::initializer_list<std::string> words) { args->insert(args->end(), words); };
  if (log.driver == LogDriver::kJournald) {
    add({"--journal", settings_.journal_socket});
    if (!log.blocking) {
      const int64_t most = std::min<int64_t>(log.buffer_size, 64 << 20);
      add({"--log-drops", "--log-buffer", std::to_string(most)});
    }
  } else {
    const std::string path = log_path(row.id, log.driver);
    add({"--log", path.substr(path.rfind('/') + 1)});
    if (log.driver == LogDriver::kLocal) add({"--log-format", "local"});
    if (log.max_size > 0) {
      add({"--log-max-size", std::to_string(log.max_size), "--log-max-files", std::to_string(log.max_files)});
    }
    if (log.compress) add({"--log-compressor", settings_.libexec + "/hull-images"});
  }
  TRY_ASSIGN(const std::string extra,
             log_extra(config, log.driver, {row.id, row.name, row.image, row.image_id, row.command}));
  if (extra.empty()) return {};
  TRY(sys::replace_file(paths_.run_of(row.id) + "/log-extra", extra, 0600, false));
  add({"--log-extra", "log-extra"});
  return {};
}

Result<void> EngineImpl::add_service_options(const WorkloadRow& row, const Config& config, const oci::Spec& spec,
                                             const std::optional<RestartRecord>& again,
                                             std::vector<std::string>* args) const {
  TRY(add_log_options(row, config, args));
  const auto add = [&](std::initializer_list<std::string> words) { args->insert(args->end(), words); };
  if (config.restart.restarts()) {
    add({"--restart", config.restart.name == "on-failure" ? "on-failure" : "always"});
    if (config.restart.maximum_retries > 0) add({"--restart-most", std::to_string(config.restart.maximum_retries)});
  }
  // Without a policy, too: an unhealthy workload may be started again.
  if (again) {
    add({"--restart-count", std::to_string(again->count), "--restart-delay", std::to_string(again->delay_ms)});
  }
  if (!config.has_health_check() || !spec.process) return {};
  const oci::HealthConfig& health = *config.healthcheck;
  oci::Process process = *spec.process;
  process.terminal = false;
  process.console_size.reset();
  process.args = health_command(health);
  TRY(sys::replace_file(paths_.run_of(row.id) + "/health.json", oci::to_json(process), 0600, false));
  std::vector<std::string> command = driver(row.isolation).command();
  command.insert(command.end(), {"exec", "--process", "health.json", "--detach", "--pid-file", "health.pid", row.id});
  add({"--health-interval", milliseconds(health.interval_ns, kDefaultIntervalNs)});
  add({"--health-timeout", milliseconds(health.timeout_ns, kDefaultIntervalNs)});
  add({"--health-start-interval", milliseconds(health.start_interval_ns, kDefaultStartIntervalNs)});
  add({"--health-start-period", std::to_string(health.start_period_ns / 1'000'000)});
  add({"--health-retries", std::to_string(health.retries > 0 ? health.retries : kDefaultRetries)});
  add({"--health", std::to_string(command.size())});
  args->insert(args->end(), command.begin(), command.end());
  args->emplace_back();  // the monitor ends the command here
  return {};
}

void EngineImpl::keep_health(const std::string& id) const {
  const auto text = sys::read_file(paths_.run_of(id) + "/health", kMostHealthRecord);
  if (text.ok()) ignore_result(sys::replace_file(paths_.workload(id) + "/health", *text, 0600, false));
}

Result<void> EngineImpl::restart_after_exit(std::string_view id, std::optional<int64_t> started_ns) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const Change change, Change::begin(paths_, id));
  TRY_ASSIGN(const std::optional<WorkloadRow> row, names->by_id(id));
  if (!row || row->removing) return {};
  const RunState state = read_state(paths_, row->id);
  const std::optional<RestartRecord> planned = read_restart(paths_, row->id);
  RestartRecord next;
  if (started_ns) {
    // Somebody else has taken over: this run is no longer the one that ended.
    if (state.status != Status::kRestarting || !planned || planned->started_ns != *started_ns) return {};
    next = *planned;
  } else {
    if (is_live(state.status)) return {};
    next.count = restart_count(paths_, row->id) + 1;
    next.delay_ms = planned ? planned->delay_ms : 0;
  }
  const bool stopped = was_stopped(paths_, row->id);
  // A killed restart is made up for by the next command (repair.cc).
  if (!stopped) TRY(change.note("restart"));
  TRY(cleanup_locked(change, *row));
  if (stopped) return {};
  TRY(set_restart_count(paths_, row->id, next.count));
  const auto started = start_locked(change, *row, false, false, next);
  if (started.ok() || was_stopped(paths_, row->id)) return {};  // or stopped in the middle: its last end stays
  return restart_failed(*row, started.error());
}

/// As Docker has it: what can't be started is left, and says why.
Result<void> EngineImpl::restart_failed(const WorkloadRow& row, const Error& error) {
  ExitRecord record;
  record.started_ns = record.finished_ns = now_ns();
  const int number = error.error_number();
  record.code = number == ENOENT ? 127 : number == EACCES ? 126 : 128;
  record.error = error.message();
  TRY(write_exit(paths_, row.id, record));
  return error;
}

void EngineImpl::revive(const WorkloadRow& row, const RunState& lost) {
  if (!lost.orphaned && !lost.restart_lost) return;
  auto names = index_ ? Result<Index*>(index_.get()) : index();
  if (!names.ok()) return;
  const auto config = config_of(**names, row.id);
  if (!config.ok() || !config->restart.restarts() || was_stopped(paths_, row.id)) return;
  if (lost.orphaned && lost.started_ns == 0) return;  // it never ran
  const RestartPolicy& policy = config->restart;
  const int code = lost.exit ? lost.exit->code : 137;
  if (policy.name == "on-failure" && lost.orphaned &&
      (code == 0 || (policy.maximum_retries > 0 && restart_count(paths_, row.id) >= policy.maximum_retries))) {
    return;
  }
  // By a process of its own, which waits for the change that is being made here.
  SpawnRequest request;
  request.argv = {own_program(), "internal", "restart", row.id};
  request.new_session = true;
  ignore_result(spawn(request));
}

Result<void> EngineImpl::health_changed(std::string_view id, std::string_view status) {
  TRY_ASSIGN(const WorkloadRow row, find(id));
  const RunState state = read_state(paths_, row.id);
  if (state.status != Status::kRunning) return {};
  emit_workload(row, fmt::format("health_status: {}", status));
  if (status != "unhealthy") return {};
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const Config config, config_of(*names, row.id));
  const std::string& action = config.health_on_failure;
  if (action == "kill") {
    emit_workload(row, "kill", {{"signal", std::to_string(SIGKILL)}});
    return driver(row.isolation).signal(row.id, state, SIGKILL);
  }
  if (action == "stop") return stop(row.id, std::nullopt, "");
  if (action != "restart") return {};
  // The monitor finds this when the process has ended.
  TRY(sys::open(paths_.run_of(row.id) + "/restart-now", O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  TRY_ASSIGN(const int signal, parse_signal(config.stop_signal.empty() ? "SIGTERM" : config.stop_signal));
  return end_process(row, state, config.stop_timeout_s.value_or(kDefaultStopSeconds), signal);
}

}  // namespace hull::engine
