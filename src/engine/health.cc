#include "engine/health.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/json_reader.h"
#include "base/unique_fd.h"
#include "sys/file.h"

namespace hull::engine {

std::optional<HealthRecord> parse_health_record(std::string_view json) {
  HealthRecord record;
  JsonReader r(json);
  r.object([&](std::string_view key) {
    if (key == "Status") return r.value(record.status);
    if (key == "FailingStreak") return r.value(record.failing_streak);
    if (key != "Log") return false;
    r.array([&] {
      HealthRecord::Entry& entry = record.log.emplace_back();
      r.object([&](std::string_view member) {
        if (member == "Start") return r.value(entry.start);
        if (member == "End") return r.value(entry.end);
        if (member == "ExitCode") return r.value(entry.exit_code);
        if (member == "Output") return r.value(entry.output);
        return false;
      });
    });
    return true;
  });
  if (!r.finish().ok() || record.status.empty()) return std::nullopt;
  return record;
}

std::optional<HealthRecord> read_health_record(const Paths& paths, std::string_view id, bool running) {
  const std::string folder = running ? paths.run_of(id) : paths.workload(id);
  const auto text = sys::read_file(folder + "/health", kMostHealthRecord);
  if (!text.ok()) return std::nullopt;
  auto record = parse_health_record(*text);
  if (record && !running) record->status = "unhealthy";
  return record;
}

std::string read_health_status(const Paths& paths, std::string_view id) {
  const UniqueFd fd(::open((paths.run_of(id) + "/health").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return {};
  char text[64];
  const ssize_t got = ::read(fd.get(), text, sizeof text);
  constexpr std::string_view kHead = "{\"Status\":\"";
  std::string_view rest(text, got > 0 ? static_cast<size_t>(got) : 0);
  if (!rest.starts_with(kHead)) return {};
  rest.remove_prefix(kHead.size());
  return std::string(rest.substr(0, rest.find('"')));
}

void write_health_record(JsonWriter& w, const HealthRecord& record) {
  w.object("Health", [&] {
    w.member("Status", record.status);
    w.member("FailingStreak", record.failing_streak);
    w.array("Log", [&] {
      for (const HealthRecord::Entry& entry : record.log) {
        w.object([&] {
          w.member("Start", entry.start);
          w.member("End", entry.end);
          w.member("ExitCode", entry.exit_code);
          w.member("Output", entry.output);
        });
      }
    });
  });
}

}  // namespace hull::engine
