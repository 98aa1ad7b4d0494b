// stop, restart, kill, pause, unpause, wait, rm, container prune.
#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/filters.h"

namespace hull::cli {
namespace {

constexpr Flag kSignalFlag = {.name = "signal",
                              .short_name = 's',
                              .kind = ValueKind::kText,
                              .metavar = "SIGNAL",
                              .help = "Signal to send instead of the workload's stop signal",
                              .complete = Complete::kSignal};

constexpr Flag kStopFlags[] = {
    kSignalFlag,
    {.name = "time", .kind = ValueKind::kInt, .metavar = "SECONDS", .help = "", .hidden = true},
    {.name = "timeout",
     .short_name = 't',
     .kind = ValueKind::kInt,
     .metavar = "SECONDS",
     .help = "How long to wait before killing it; -1 for ever",
     .fallback = "the workload's, or 10"},
};
constexpr std::span<const Flag> kStopTables[] = {kStopFlags};

Result<std::optional<int>> timeout_of(const Parsed& parsed) {
  std::optional<int64_t> seconds = parsed.number("time");
  if (parsed.has("timeout")) seconds = parsed.number("timeout");
  if (!seconds) return std::optional<int>();
  if (*seconds < -1 || *seconds > (1 << 30))
    return errorf(ErrorKind::kInvalid, "a timeout of {} s is out of range", *seconds);
  return std::optional<int>(static_cast<int>(*seconds));
}

Result<int> each(Context& context, const Parsed& parsed,
                 const std::function<Result<void>(engine::Engine&, const std::string&)>& work) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY(work(*engine, name));
    context.out.print("{}\n", name);
    return {};
  });
}

Result<int> stop_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const std::optional<int> timeout, timeout_of(parsed));
  return each(context, parsed, [&](engine::Engine& engine, const std::string& name) {
    return engine.stop(name, timeout, parsed.value("signal"));
  });
}

Result<int> restart_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const std::optional<int> timeout, timeout_of(parsed));
  return each(context, parsed, [&](engine::Engine& engine, const std::string& name) {
    return engine.restart(name, timeout, parsed.value("signal"));
  });
}

constexpr Flag kKillFlags[] = {
    {.name = "signal",
     .short_name = 's',
     .kind = ValueKind::kText,
     .metavar = "SIGNAL",
     .help = "Signal to send",
     .complete = Complete::kSignal,
     .fallback = "KILL"},
};
constexpr std::span<const Flag> kKillTables[] = {kKillFlags};

Result<int> kill_main(Context& context, const Parsed& parsed) {
  const std::string_view signal = parsed.value("signal", "KILL");
  if (signal.empty()) return errorf(ErrorKind::kInvalid, "the signal's name is empty");
  return each(context, parsed,
              [&](engine::Engine& engine, const std::string& name) { return engine.kill(name, signal); });
}

Result<int> pause_main(Context& context, const Parsed& parsed) {
  return each(context, parsed, [](engine::Engine& engine, const std::string& name) { return engine.pause(name); });
}

Result<int> unpause_main(Context& context, const Parsed& parsed) {
  return each(context, parsed, [](engine::Engine& engine, const std::string& name) { return engine.unpause(name); });
}

constexpr Flag kWaitFlags[] = {
    {.name = "condition",
     .kind = ValueKind::kText,
     .metavar = "CONDITION",
     .help = "What to wait for",
     .complete = Complete::kWords,
     .words = "not-running next-exit removed",
     .fallback = "not-running"},
};
constexpr std::span<const Flag> kWaitTables[] = {kWaitFlags};

Result<int> wait_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(const engine::ExitInfo info, engine->wait(name, parsed.value("condition", "not-running")));
    context.out.print("{}\n", info.code);
    context.out.flush();
    return {};
  });
}

constexpr Flag kRemoveFlags[] = {
    {.name = "force", .short_name = 'f', .help = "Kill it first when it runs"},
    {.name = "link", .short_name = 'l', .help = "", .hidden = true},
    {.name = "volumes", .short_name = 'v', .help = "Remove its anonymous volumes too"},
};
constexpr std::span<const Flag> kRemoveTables[] = {kRemoveFlags};

Result<int> remove_main(Context& context, const Parsed& parsed) {
  if (parsed.on("link")) return errorf(ErrorKind::kUnsupported, "--link: there are no links between workloads");
  const bool force = parsed.on("force");
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    auto removed = engine->remove(name, force, parsed.on("volumes"));
    // As Docker: with --force, what is not there is as good as removed.
    if (!removed.ok() && !(force && removed.error().kind() == ErrorKind::kNotFound)) return removed;
    if (removed.ok()) context.out.print("{}\n", name);
    return {};
  });
}

constexpr Flag kPruneFlags[] = {
    {.name = "filter",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Only those: until=TIME, label=KEY[=VALUE], label!=...",
     .repeatable = true},
    {.name = "force", .short_name = 'f', .help = "Do not ask"},
};
constexpr std::span<const Flag> kPruneTables[] = {kPruneFlags};

Result<int> prune_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto filters, parse_filters(parsed.values("filter"), {"until", "label", "label!"}));
  if (!parsed.on("force")) {
    TRY_ASSIGN(const bool yes, confirm(context, "WARNING! This will remove all stopped containers."));
    if (!yes) return 0;
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const store::PruneReport report, engine->prune(filters));
  if (!report.deleted.empty()) context.out.write("Deleted Containers:\n");
  for (const std::string& id : report.deleted) context.out.print("{}\n", id);
  if (!report.deleted.empty()) context.out.write("\n");
  context.out.print("Total reclaimed space: {}\n", format_size(report.reclaimed));
  return 0;
}

}  // namespace

constinit const Command kStop = {.path = "stop",
                                 .aliases = "container stop",
                                 .arguments = "WORKLOAD [WORKLOAD...]",
                                 .summary = "Stop running workloads",
                                 .description = "Sends the stop signal, waits, and kills what is still there.",
                                 .examples = "hull stop web\nhull stop -t 60 -s INT db\n",
                                 .flags = kStopTables,
                                 .least = 1,
                                 .most = -1,
                                 .complete = Complete::kRunning,
                                 .run = stop_main};

constinit const Command kRestart = {.path = "restart",
                                    .aliases = "container restart",
                                    .arguments = "WORKLOAD [WORKLOAD...]",
                                    .summary = "Stop and start workloads",
                                    .flags = kStopTables,
                                    .least = 1,
                                    .most = -1,
                                    .complete = Complete::kWorkload,
                                    .run = restart_main};

constinit const Command kKill = {.path = "kill",
                                 .aliases = "container kill",
                                 .arguments = "WORKLOAD [WORKLOAD...]",
                                 .summary = "Send a signal to running workloads",
                                 .examples = "hull kill web\nhull kill -s HUP web\n",
                                 .flags = kKillTables,
                                 .least = 1,
                                 .most = -1,
                                 .complete = Complete::kRunning,
                                 .run = kill_main};

constinit const Command kPause = {.path = "pause",
                                  .aliases = "container pause",
                                  .arguments = "WORKLOAD [WORKLOAD...]",
                                  .summary = "Freeze all processes of workloads",
                                  .least = 1,
                                  .most = -1,
                                  .complete = Complete::kRunning,
                                  .run = pause_main};

constinit const Command kUnpause = {.path = "unpause",
                                    .aliases = "container unpause",
                                    .arguments = "WORKLOAD [WORKLOAD...]",
                                    .summary = "Let paused workloads go on",
                                    .least = 1,
                                    .most = -1,
                                    .complete = Complete::kPaused,
                                    .run = unpause_main};

constinit const Command kWait = {.path = "wait",
                                 .aliases = "container wait",
                                 .arguments = "WORKLOAD [WORKLOAD...]",
                                 .summary = "Wait until workloads have stopped and print their exit codes",
                                 .flags = kWaitTables,
                                 .least = 1,
                                 .most = -1,
                                 .complete = Complete::kWorkload,
                                 .run = wait_main};

constinit const Command kRemove = {.path = "rm",
                                   .aliases = "container rm,container remove",
                                   .arguments = "WORKLOAD [WORKLOAD...]",
                                   .summary = "Remove workloads",
                                   .examples = "hull rm web\nhull rm -fv $(hull ps -aq)\n",
                                   .flags = kRemoveTables,
                                   .least = 1,
                                   .most = -1,
                                   .complete = Complete::kWorkload,
                                   .run = remove_main};

constinit const Command kContainerPrune = {
    .path = "container prune", .summary = "Remove all stopped workloads", .flags = kPruneTables, .run = prune_main};

}  // namespace hull::cli
