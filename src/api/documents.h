#pragma once
// Documents that are the API's own: the list of containers, volumes, statistics, what a viewer sees of an inspect
// document.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_writer.h"
#include "engine/engine.h"
#include "engine/links.h"

namespace hull::api {

/// Seconds since 1970, as Docker's lists have times.
int64_t unix_seconds(engine::TimePoint when);

/// What an entry of Docker's list has in some versions, or when it is asked for.
struct ContainerExtras {
  std::optional<uint64_t> disk;           // bytes
  std::optional<int64_t> failing_streak;  // with it the health is shown
};
void write_container(JsonWriter& w, const engine::WorkloadSummary& one, const ContainerExtras& extras);
/// How many health checks in a row have failed; 0 without health checks.
int64_t failing_streak(const engine::Settings& settings, const engine::WorkloadSummary& one);

/// A volume, with its size where it is known.
void write_volume(JsonWriter& w, const engine::Volume& volume);

/// Docker's list. With an engine also sizes, which cost a look at every file that was written; with settings (1.52 and
/// newer) also the health.
std::string list_document(const std::vector<engine::WorkloadSummary>& workloads, engine::Engine* sizes,
                          const engine::Settings* health);

/// Docker's statistics; `before` is what precpu_stats shows (all zero the first time).
std::string stats_document(const engine::ContainerStats& now, engine::TimePoint read,
                           const engine::ContainerStats& before, engine::TimePoint read_before,
                           const std::vector<engine::LinkStats>& links);

/// An inspect document whose environment variables have names and no values.
Result<std::string> without_secrets(std::string_view inspect);

/// The kind that a failed start is answered with: a program that is not there or can't be executed is a fault of the
/// request (clients make exit codes 127 and 126 of it).
ErrorKind start_kind(const Error& error);
/// Its message, with the system's words as Go writes them: clients look for "permission denied".
std::string start_message(const Error& error);

}  // namespace hull::api
