// stats.
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/filters.h"
#include "cli/format.h"
#include "cli/table.h"

namespace hull::cli {
namespace {

constexpr Flag kFlags[] = {
    {.name = "all", .short_name = 'a', .help = "Show stopped workloads too"},
    kFormatFlag,
    {.name = "no-stream", .help = "Print one measurement and end"},
    kNoTruncFlag,
};
constexpr std::span<const Flag> kTables[] = {kFlags};

constexpr Column kColumns[] = {
    {"Container", "CONTAINER"},
    {"ID", "CONTAINER ID"},
    {"Name", "NAME"},
    {"CPUPerc", "CPU %"},
    {"MemUsage", "MEM USAGE / LIMIT"},
    {"MemPerc", "MEM %"},
    {"NetIO", "NET I/O"},
    {"BlockIO", "BLOCK I/O"},
    {"PIDs", "PIDS"},
    {"Isolation", "ISOLATION"},
};

/// Processor time used between two samples, in percent of one processor.
double cpu_percent(const engine::ContainerStats& before, const engine::ContainerStats& now) {
  if (now.cpu_total_ns <= before.cpu_total_ns || now.system_cpu_ns <= before.system_cpu_ns) return 0;
  const auto used = static_cast<double>(now.cpu_total_ns - before.cpu_total_ns);
  const auto all = static_cast<double>(now.system_cpu_ns - before.system_cpu_ns);
  return used / all * std::max(now.online_cpus, 1) * 100;
}

Value row_of(const std::string& asked, const engine::ContainerStats* stats, double cpu, bool truncate) {
  Value row = Value::object();
  row.set("Container", asked);
  if (stats == nullptr) {
    row.set("ID", "--").set("Name", asked).set("CPUPerc", "--").set("MemUsage", "-- / --").set("MemPerc", "--");
    row.set("NetIO", "--").set("BlockIO", "--").set("PIDs", "--").set("Isolation", "--");
    return row;
  }
  const double memory = stats->memory_limit == 0
                            ? 0
                            : static_cast<double>(stats->memory_used) * 100 / static_cast<double>(stats->memory_limit);
  row.set("ID", truncate ? short_id(stats->id) : stats->id);
  row.set("Name", stats->name);
  row.set("CPUPerc", fmt::format("{:.2f}%", cpu));
  row.set("MemUsage",
          fmt::format("{} / {}", format_size_binary(stats->memory_used), format_size_binary(stats->memory_limit)));
  row.set("MemPerc", fmt::format("{:.2f}%", memory));
  row.set("NetIO", fmt::format("{} / {}", format_size(stats->net_rx), format_size(stats->net_tx)));
  row.set("BlockIO", fmt::format("{} / {}", format_size(stats->block_read), format_size(stats->block_write)));
  row.set("PIDs", std::to_string(stats->pids));
  row.set("Isolation", std::string(engine::to_string(stats->isolation)));
  return row;
}

class Monitor {
 public:
  Monitor(Context& context, engine::Engine& engine, const Parsed& parsed)
      : context_(context), engine_(engine), parsed_(parsed) {}

  Result<int> run() {
    TRY(sample());
    UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    itimerspec every{};
    every.it_interval.tv_sec = every.it_value.tv_sec = 1;
    if (!timer || ::timerfd_settime(timer.get(), 0, &every, nullptr) != 0) return errno_error("start a timer");
    const bool once = parsed_.on("no-stream");
    while (true) {
      uint64_t ticks = 0;
      if (::read(timer.get(), &ticks, sizeof ticks) < 0 && errno != EINTR) return errno_error("read the timer");
      TRY(sample());
      TRY(print(!once));
      if (once) return 0;
      if (!context_.out.good()) return 1;
    }
  }

 private:
  /// The workloads asked for, or all that run. One that goes away meanwhile has no numbers.
  Result<void> sample() {
    std::vector<std::string> names = parsed_.arguments;
    if (names.empty()) {
      engine::ListFilter filter;
      filter.all = parsed_.on("all");
      TRY_ASSIGN(const auto workloads, engine_.list(filter));
      for (const auto& one : workloads) names.push_back(one.id);
    }
    before_ = std::move(now_);
    now_.clear();
    order_ = names;
    for (const std::string& name : names) {
      auto stats = engine_.stats(name);
      if (stats.ok()) {
        now_.emplace(name, std::move(*stats));
      } else if (!parsed_.arguments.empty() && before_.empty()) {
        return std::move(stats).error();  // a name that never was
      }
    }
    return {};
  }

  Result<void> print(bool live) {
    std::vector<Value> rows;
    const bool truncate = !parsed_.on("no-trunc");
    for (const std::string& name : order_) {
      const auto now = now_.find(name);
      const auto before = before_.find(name);
      const bool both = now != now_.end() && before != before_.end();
      rows.push_back(row_of(name, now == now_.end() ? nullptr : &now->second,
                            both ? cpu_percent(before->second, now->second) : 0, truncate));
    }
    // Home and clear what is below, rather than clearing first: no flicker.
    if (live && context_.out.is_terminal()) context_.out.write("\x1b[H\x1b[J");
    const Listing listing = {
        kColumns, {"ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs", "Isolation"}, "ID"};
    TRY(print_rows(context_.out, listing, parsed_.value("format"), false, !truncate, rows));
    context_.out.flush();
    return {};
  }

  Context& context_;
  engine::Engine& engine_;
  const Parsed& parsed_;
  std::vector<std::string> order_;
  std::map<std::string, engine::ContainerStats> before_, now_;
};

Result<int> stats_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return Monitor(context, *engine, parsed).run();
}

}  // namespace

constinit const Command kStats = {
    .path = "stats",
    .aliases = "container stats",
    .arguments = "[WORKLOAD...]",
    .summary = "Show what workloads use: processors, memory, network, disks",
    .description =
        "Measures once a second until it is interrupted.\n\nFields of templates: .Container .ID .Name "
        ".CPUPerc .MemUsage .MemPerc .NetIO .BlockIO .PIDs .Isolation",
    .examples = "hull stats --no-stream --format 'table {{.Name}}\\t{{.MemUsage}}'\n",
    .flags = kTables,
    .most = -1,
    .complete = Complete::kRunning,
    .run = stats_main};

}  // namespace hull::cli
