// The engine's events: which ones, and what they say.
#include "engine/engine_impl.h"

namespace hull::engine {

Result<void> EngineImpl::events(const EventFilter& filter, const EventSink& sink) { return events_.read(filter, sink); }

void EngineImpl::emit(const Event& event) { ignore_result(events_.write(event)); }

void EngineImpl::emit_workload(const WorkloadRow& row, std::string action, std::map<std::string, std::string> extra) {
  Event event;
  event.type = "container";
  event.action = std::move(action);
  event.actor = row.id;
  event.attributes = labels_from_json(row.labels);
  for (auto& [key, value] : extra) event.attributes.insert_or_assign(key, std::move(value));
  event.attributes.insert_or_assign("image", row.image);
  event.attributes.insert_or_assign("name", row.name);
  emit(event);
}

void EngineImpl::emit_volume(const std::string& name, std::string action, std::map<std::string, std::string> extra) {
  extra.emplace("driver", "local");
  emit({"volume", std::move(action), name, std::move(extra)});
}

void EngineImpl::emit_mounts(const WorkloadRow& row, const Config& config) {
  for (const MountRequest& mount : config.mounts) {
    if (mount.type != MountRequest::Type::kVolume) continue;
    emit_volume(mount.source, "mount",
                {{"container", row.id},
                 {"destination", mount.target},
                 {"read/write", mount.read_only ? "false" : "true"},
                 {"propagation", mount.propagation}});
  }
}

void EngineImpl::emit_unmounts(const WorkloadRow& row) {
  if (row.mounts.empty()) return;
  auto names = index();
  if (!names.ok()) return;
  auto volumes = (*names)->volumes_of(row.id);
  if (!volumes.ok()) return;
  for (const std::string& name : *volumes) emit_volume(name, "unmount", {{"container", row.id}});
}

void EngineImpl::emit_end(const WorkloadRow& row, const ExitRecord& record) {
  if (record.oom_killed) emit_workload(row, "oom");
  const int64_t ran_ns = record.finished_ns - record.started_ns;
  emit_workload(row, "die",
                {{"exitCode", std::to_string(record.code)},
                 {"execDuration", std::to_string(ran_ns > 0 ? ran_ns / 1'000'000'000 : 0)}});
}

}  // namespace hull::engine
