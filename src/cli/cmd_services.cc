// system start-all, system stop-all: what should run after a boot.
#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

using engine::Engine;

Engine::ServiceSink printer(Context& context, std::string_view done) {
  return [&context, done](const Engine::ServiceStep& step) {
    if (step.done) context.out.print("{} {}\n", done, step.name);
    if (!step.problem.empty()) context.err.print("hull: {}: {}\n", step.name, printable(step.problem));
  };
}

constexpr Flag kStartFlags[] = {
    {.name = "dry-run", .help = "Only print what would be started, in this order"},
};
constexpr std::span<const Flag> kStartTables[] = {kStartFlags};

Result<int> start_all_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(Engine * engine, context.engine());
  const bool pretend = parsed.on("dry-run");
  TRY_ASSIGN(const int failures, engine->start_all(pretend, printer(context, pretend ? "would start" : "started")));
  return failures > 0 ? 1 : 0;
}

constexpr Flag kStopFlags[] = {
    {.name = "time",
     .short_name = 't',
     .kind = ValueKind::kInt,
     .metavar = "SECONDS",
     .help = "How long each may take before it is killed",
     .fallback = "its own, or 10"},
};
constexpr std::span<const Flag> kStopTables[] = {kStopFlags};

Result<int> stop_all_main(Context& context, const Parsed& parsed) {
  std::optional<int> timeout;
  if (parsed.has("time")) {
    TRY_ASSIGN(const int64_t seconds, parse_int(parsed.value("time"), -1, 1 << 30));
    timeout = static_cast<int>(seconds);
  }
  TRY_ASSIGN(Engine * engine, context.engine());
  TRY_ASSIGN(const int failures, engine->stop_all(timeout, printer(context, "stopped")));
  return failures > 0 ? 1 : 0;
}

}  // namespace

constinit const Command kSystemStartAll = {
    .path = "system start-all",
    .summary = "Start what should run after a boot",
    .description =
        "Starts every workload whose restart policy asks for it: always; unless-stopped, when nobody has stopped it; "
        "on-failure, when it ran as the machine went down. What others need comes first: joined namespaces, "
        "--volumes-from, links, and depends_on of compose with its conditions. hull.service does this at boot.",
    .flags = kStartTables,
    .section = Section::kSystem,
    .run = start_all_main};

constinit const Command kSystemStopAll = {
    .path = "system stop-all",
    .summary = "Stop everything that runs, for a shutdown",
    .description =
        "Stops every workload, those that others need last. Nothing is remembered as stopped by hand: 'hull system "
        "start-all' starts again what should run. hull.service does this at shutdown.",
    .flags = kStopTables,
    .section = Section::kSystem,
    .run = stop_all_main};

}  // namespace hull::cli
