// rename, update, commit, diff.
#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/image_transfer_flags.h"
#include "cli/run_options.h"

namespace hull::cli {
namespace {

Result<int> rename_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->rename(parsed.arguments[0], parsed.arguments[1]));
  return 0;
}

constexpr Flag limit(std::string_view name, char short_name, ValueKind kind, std::string_view metavar,
                     std::string_view help) {
  return {
      .name = name, .short_name = short_name, .kind = kind, .metavar = metavar, .help = help, .group = Group::kLimits};
}

constexpr Flag kUpdateFlags[] = {
    limit("blkio-weight", 0, ValueKind::kText, "WEIGHT", "Share of block I/O, 10 to 1000"),
    limit("cpu-period", 0, ValueKind::kInt, "MICROSECONDS", "Length of the period of --cpu-quota"),
    limit("cpu-quota", 0, ValueKind::kInt, "MICROSECONDS", "CPU time in each period"),
    limit("cpu-rt-period", 0, ValueKind::kInt, "MICROSECONDS", "Length of the period of --cpu-rt-runtime"),
    limit("cpu-rt-runtime", 0, ValueKind::kInt, "MICROSECONDS", "Real-time CPU time in each period"),
    limit("cpu-shares", 'c', ValueKind::kInt, "NUMBER", "Share of CPU time when others want it too"),
    limit("cpus", 0, ValueKind::kText, "NUMBER", "How many processors' time: 1.5"),
    limit("cpuset-cpus", 0, ValueKind::kText, "LIST", "Run on these processors only: 0-2,4"),
    limit("cpuset-mems", 0, ValueKind::kText, "LIST", "Take memory from these nodes only"),
    limit("memory", 'm', ValueKind::kText, "SIZE", "Limit of memory"),
    limit("memory-reservation", 0, ValueKind::kText, "SIZE", "Memory that is kept when memory is short"),
    limit("memory-swap", 0, ValueKind::kText, "SIZE", "Limit of memory and swap together; -1 for unlimited swap"),
    limit("pids-limit", 0, ValueKind::kInt, "NUMBER", "Most processes and threads; -1 for any number"),
    {.name = "restart",
     .kind = ValueKind::kText,
     .metavar = "POLICY",
     .help = "When it is started again: no, always, unless-stopped, on-failure[:TIMES]",
     .complete = Complete::kWords,
     .words = "no always unless-stopped on-failure on-failure:"},
};
constexpr std::span<const Flag> kUpdateTables[] = {kUpdateFlags};

/// The values as `run` reads them; what was not given stays absent.
Result<engine::UpdateRequest> update_request(const Parsed& parsed) {
  RunOptions options;
  engine::UpdateRequest request;
  for (const Parsed::Given& given : parsed.given) {
    const Flag* const same = find_flag(kRun.flags, given.flag->name);
    if (same == nullptr || same->set == nullptr) {
      return errorf(ErrorKind::kInternal, "--{} is no flag of run", given.flag->name);
    }
    auto set = same->set(options, given.value);
    if (!set.ok()) {
      return errorf(ErrorKind::kInvalid, "invalid argument \"{:.120}\" for \"--{}\" flag: {}", given.value,
                    given.flag->name, set.error().message());
    }
  }
  const engine::Config& c = options.config;
  const auto take = [&](std::string_view flag, auto& target, const auto& value) {
    if (parsed.has(flag)) target = value;
  };
  take("blkio-weight", request.blkio_weight, c.blkio_weight);
  take("cpu-period", request.cpu_period, c.cpu_period);
  take("cpu-quota", request.cpu_quota, c.cpu_quota);
  take("cpu-rt-period", request.cpu_rt_period, c.cpu_rt_period);
  take("cpu-rt-runtime", request.cpu_rt_runtime, c.cpu_rt_runtime);
  take("cpu-shares", request.cpu_shares, c.cpu_shares);
  take("cpus", request.nano_cpus, c.nano_cpus);
  take("cpuset-cpus", request.cpuset_cpus, c.cpuset_cpus);
  take("cpuset-mems", request.cpuset_mems, c.cpuset_mems);
  take("memory", request.memory, c.memory);
  take("memory-reservation", request.memory_reservation, c.memory_reservation);
  take("memory-swap", request.memory_swap, c.memory_swap);
  take("pids-limit", request.pids_limit, c.pids_limit);
  take("restart", request.restart, c.restart);
  return request;
}

Result<int> update_main(Context& context, const Parsed& parsed) {
  if (parsed.given.empty()) {
    return errorf(ErrorKind::kInvalid, "you must provide one or more flags when using this command");
  }
  TRY_ASSIGN(const engine::UpdateRequest request, update_request(parsed));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(const std::vector<std::string> warnings, engine->update(name, request));
    for (const std::string& warning : warnings) context.warn(warning);
    context.out.print("{}\n", name);
    return {};
  });
}

constexpr Flag kCommitFlags[] = {
    {.name = "author",
     .short_name = 'a',
     .kind = ValueKind::kText,
     .metavar = "TEXT",
     .help = "Who made the image: \"Ada <ada@example.org>\""},
    kChangeFlag,
    kMessageFlag,
    {.name = "pause", .short_name = 'p', .help = "Pause the workload meanwhile; on unless --pause=false"},
};
constexpr std::span<const Flag> kCommitTables[] = {kCommitFlags};

Result<int> commit_main(Context& context, const Parsed& parsed) {
  engine::CommitRequest request;
  request.author = parsed.value("author");
  request.comment = parsed.value("message");
  request.changes = parsed.values("change");
  request.pause = !parsed.has("pause") || parsed.on("pause");
  if (parsed.arguments.size() > 1) {
    request.reference = parsed.arguments[1];
    TRY_ASSIGN([[maybe_unused]] const oci::Reference reference, oci::parse_reference(request.reference));
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const std::string id, engine->commit(parsed.arguments[0], request));
  context.out.print("{}\n", id);
  return 0;
}

Result<int> diff_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const std::vector<engine::FileChange> changes, engine->changes(parsed.arguments[0]));
  for (const engine::FileChange& change : changes) {
    context.out.print("{} {}\n", "CAD"[static_cast<size_t>(change.kind)], change.path);
  }
  return 0;
}

}  // namespace

constinit const Command kRename = {.path = "rename",
                                   .aliases = "container rename",
                                   .arguments = "WORKLOAD NEW_NAME",
                                   .summary = "Give a workload another name",
                                   .examples = "hull rename web web-old\n",
                                   .least = 2,
                                   .most = 2,
                                   .complete = Complete::kWorkload,
                                   .run = rename_main};

constinit const Command kUpdate = {
    .path = "update",
    .aliases = "container update",
    .arguments = "WORKLOAD [WORKLOAD...]",
    .summary = "Change limits and the restart policy of workloads",
    .description =
        "Of running ones at once, and for every start after. The memory of a virtual machine can grow only "
        "while it is stopped.",
    .examples = "hull update --memory 512m --memory-swap 1g web\nhull update --cpus 1.5 --pids-limit 200 web db\n",
    .flags = kUpdateTables,
    .least = 1,
    .most = -1,
    .complete = Complete::kWorkload,
    .run = update_main};

constinit const Command kCommit = {
    .path = "commit",
    .aliases = "container commit",
    .arguments = "WORKLOAD [NAME[:TAG]]",
    .summary = "Make an image of what a workload has written",
    .description =
        "The image has the workload's configuration, and one layer more than the image below it. What lies in "
        "volumes is not part of it.",
    .examples =
        "hull commit -m 'with tools' web team/web:2\nhull commit -c 'CMD [\"nginx\"]' -c 'ENV MODE=live' web "
        "team/web:live\n",
    .flags = kCommitTables,
    .least = 1,
    .most = 2,
    .complete = Complete::kWorkload,
    .run = commit_main};

constinit const Command kDiff = {
    .path = "diff",
    .aliases = "container diff",
    .arguments = "WORKLOAD",
    .summary = "Show which files a workload has changed",
    .description = "A line for each file: A added, C changed, D deleted. What lies in volumes is not shown.",
    .least = 1,
    .most = 1,
    .complete = Complete::kWorkload,
    .run = diff_main};

}  // namespace hull::cli
