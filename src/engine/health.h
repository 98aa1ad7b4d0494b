#pragma once
// The record that a monitor keeps of a workload's health: Docker's State.Health.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_writer.h"
#include "engine/paths.h"

namespace hull::engine {

/// Five results of 4 KiB, six bytes for each byte, and their frames.
inline constexpr size_t kMostHealthRecord = 256 * 1024;

struct HealthRecord {
  std::string status;  // starting, healthy, unhealthy
  int64_t failing_streak = 0;
  struct Entry {
    std::string start, end, output;
    int64_t exit_code = 0;
  };
  std::vector<Entry> log;  // oldest first, at most five
};

std::optional<HealthRecord> parse_health_record(std::string_view json);
/// Of the current run, else of the last one, which counts as unhealthy (as Docker has it). Nothing when the workload
/// has no health check, or never ran.
std::optional<HealthRecord> read_health_record(const Paths& paths, std::string_view id, bool running);
/// The status alone, cheaply; "" when there is none.
std::string read_health_status(const Paths& paths, std::string_view id);
void write_health_record(JsonWriter& w, const HealthRecord& record);

}  // namespace hull::engine
