// rename and update: changes to a workload that exists.
#include <algorithm>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/monitor_client.h"
#include "engine/user_group.h"
#include "engine/validate.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// Docker's rules for what is changed beside what was set before.
Result<void> check_conflicts(const Config& config, const UpdateRequest& update) {
  if (update.restart && update.restart->restarts() && config.auto_remove) {
    return errorf(ErrorKind::kConflict,
                  "Restart policy cannot be updated because AutoRemove is enabled for the container");
  }
  if (config.nano_cpus > 0 && !update.nano_cpus && (update.cpu_period || update.cpu_quota)) {
    return errorf(ErrorKind::kConflict,
                  "Conflicting options: CPU {} cannot be updated as NanoCPUs has already been set",
                  update.cpu_period ? "Period" : "Quota");
  }
  if (update.nano_cpus && (config.cpu_period > 0 || config.cpu_quota > 0)) {
    return errorf(ErrorKind::kConflict,
                  "Conflicting options: Nano CPUs cannot be updated as CPU {} has already been set",
                  config.cpu_period > 0 ? "Period" : "Quota");
  }
  if (update.memory && !update.memory_swap && config.memory_swap > 0 && *update.memory > config.memory_swap) {
    return errorf(ErrorKind::kConflict,
                  "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same "
                  "time");
  }
  return {};
}

void apply(const UpdateRequest& update, Config* config) {
  const auto set = [](auto& target, const auto& value) {
    if (value) target = *value;
  };
  set(config->memory, update.memory);
  set(config->memory_swap, update.memory_swap);
  set(config->memory_reservation, update.memory_reservation);
  set(config->nano_cpus, update.nano_cpus);
  set(config->cpu_shares, update.cpu_shares);
  set(config->cpu_period, update.cpu_period);
  set(config->cpu_quota, update.cpu_quota);
  set(config->cpu_rt_period, update.cpu_rt_period);
  set(config->cpu_rt_runtime, update.cpu_rt_runtime);
  set(config->pids_limit, update.pids_limit);
  set(config->cpuset_cpus, update.cpuset_cpus);
  set(config->cpuset_mems, update.cpuset_mems);
  set(config->blkio_weight, update.blkio_weight);
  set(config->blkio_weight_device, update.blkio_weight_device);
  set(config->device_read_bps, update.device_read_bps);
  set(config->device_write_bps, update.device_write_bps);
  set(config->device_read_iops, update.device_read_iops);
  set(config->device_write_iops, update.device_write_iops);
  set(config->restart, update.restart);
}

/// The rules of one kind that a change leaves, with a rate of 0 (none) for each device that had one and has no more.
std::vector<Config::DeviceRate> rules_after(const std::vector<Config::DeviceRate>& before,
                                            const std::optional<std::vector<Config::DeviceRate>>& change) {
  if (!change) return {};
  std::vector<Config::DeviceRate> out = *change;
  for (const Config::DeviceRate& old : before) {
    const bool goes_on =
        std::any_of(change->begin(), change->end(), [&](const auto& one) { return one.path == old.path; });
    if (!goes_on) out.push_back({old.path, 0});
  }
  return out;
}

/// What the change makes of the rules for devices. A device that is gone took its rules along.
Result<void> change_devices(const Config& before, const UpdateRequest& update, oci::Resources* out) {
  Config rules;
  rules.blkio_weight_device = rules_after(before.blkio_weight_device, update.blkio_weight_device);
  rules.device_read_bps = rules_after(before.device_read_bps, update.device_read_bps);
  rules.device_write_bps = rules_after(before.device_write_bps, update.device_write_bps);
  rules.device_read_iops = rules_after(before.device_read_iops, update.device_read_iops);
  rules.device_write_iops = rules_after(before.device_write_iops, update.device_write_iops);
  for (auto* const list : {&rules.blkio_weight_device, &rules.device_read_bps, &rules.device_write_bps,
                           &rules.device_read_iops, &rules.device_write_iops}) {
    std::erase_if(*list, [](const Config::DeviceRate& one) { return one.rate == 0 && !sys::exists(one.path); });
  }
  TRY_ASSIGN(oci::Resources made, make_resources(rules, true));
  if (!made.block_io) return {};
  const std::optional<uint16_t> weight = out->block_io ? out->block_io->weight : std::nullopt;
  out->block_io = std::move(made.block_io);
  out->block_io->weight = weight;
  return {};
}

/// Only what is to change: a limit that is written again can fail where it was kept.
Result<oci::Resources> changed_resources(const Config& before, const Config& config, const UpdateRequest& update,
                                         bool swap_accounting) {
  TRY_ASSIGN(oci::Resources all, make_resources(config, swap_accounting));
  oci::Resources out;
  if (update.memory || update.memory_swap || update.memory_reservation) out.memory = std::move(all.memory);
  const bool cpu = update.nano_cpus || update.cpu_shares || update.cpu_period || update.cpu_quota ||
                   update.cpu_rt_period || update.cpu_rt_runtime || update.cpuset_cpus || update.cpuset_mems;
  if (cpu) out.cpu = std::move(all.cpu);
  if (update.pids_limit) out.pids_limit = config.pids_limit > 0 ? config.pids_limit : -1;
  if (update.blkio_weight) out.block_io.emplace().weight = *update.blkio_weight;
  if (update.changes_devices()) TRY(change_devices(before, update, &out));
  return out;
}

}  // namespace

bool UpdateRequest::changes_devices() const {
  return blkio_weight_device || device_read_bps || device_write_bps || device_read_iops || device_write_iops;
}

bool UpdateRequest::changes_limits() const {
  return memory || memory_swap || memory_reservation || nano_cpus || cpu_shares || cpu_period || cpu_quota ||
         cpu_rt_period || cpu_rt_runtime || pids_limit || cpuset_cpus || cpuset_mems || blkio_weight ||
         changes_devices();
}

Result<void> EngineImpl::rename(std::string_view ref, std::string_view new_name) {
  if (new_name.starts_with('/')) new_name.remove_prefix(1);
  if (new_name.empty()) return errorf(ErrorKind::kInvalid, "Neither old nor new names may be empty");
  if (!valid_name(new_name)) {
    return errorf(ErrorKind::kInvalid,
                  "Error when allocating new name: Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are "
                  "allowed",
                  new_name);
  }
  TRY_ASSIGN(const WorkloadRow found, find(ref));
  TRY_ASSIGN(const Change change, Change::begin(paths_, found.id));
  TRY_ASSIGN(WorkloadRow row, find(found.id));
  if (row.name == new_name) {
    return errorf(ErrorKind::kInvalid, "Renaming a container with the same name as its current name");
  }
  TRY_ASSIGN(Index* const names, index());
  TRY(names->rename(row.id, new_name));
  const std::string old = std::exchange(row.name, std::string(new_name));
  TRY(announce_again(row));
  emit_workload(row, "rename", {{"oldName", "/" + old}});
  return {};
}

Result<std::vector<std::string>> EngineImpl::update(std::string_view ref, const UpdateRequest& request) {
  TRY_ASSIGN(const WorkloadRow found, find(ref));
  TRY_ASSIGN(const Change change, Change::begin(paths_, found.id));
  TRY_ASSIGN(const WorkloadRow row, find(found.id));
  if (row.removing) {
    return errorf(ErrorKind::kConflict, "Cannot update container {}: it is being removed", row.name);
  }
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(Config config, parse_config(json));
  TRY(check_conflicts(config, request));
  const Config before = config;
  apply(request, &config);
  TRY(validate(config));
  if (request.changes_limits()) TRY(check_user_limits(config, settings_));
  std::vector<std::string> warnings;
  const bool swap = row.isolation == Isolation::kVm || host_has_swap_accounting();
  if (request.memory_swap && !swap) {
    warnings.emplace_back(
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without "
        "swap.");
  }
  const RunState state = read_state(paths_, row.id);
  const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
  if (running && request.changes_limits()) {
    TRY_ASSIGN(const oci::Resources resources, changed_resources(before, config, request, swap));
    TRY(driver(row.isolation).update(row.id, resources).context(fmt::format("Cannot update container {}", row.name)));
  }
  TRY(names->set_config(row.id, to_json(config)));
  if (running && request.restart) {
    const auto control = connect_monitor(paths_, row.id);
    const auto changed = control.ok() ? change_restart_rule(control->get(), config.restart) : Result<bool>(false);
    if (!changed.ok() || !*changed) {
      warnings.emplace_back(
          "The monitor of the container does not take the restart policy: it counts from the next start.");
    }
  }
  emit_workload(row, "update");
  return warnings;
}

}  // namespace hull::engine
