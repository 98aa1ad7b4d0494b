// ps, port, top.
#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/filters.h"
#include "cli/format.h"
#include "cli/table.h"
#include "cli/text.h"
#include "engine/mount_lines.h"

namespace hull::cli {
namespace {

constexpr Flag kPsFlags[] = {
    {.name = "all", .short_name = 'a', .help = "Show stopped ones too"},
    kFilterFlag,
    kFormatFlag,
    {.name = "last",
     .short_name = 'n',
     .kind = ValueKind::kInt,
     .metavar = "NUMBER",
     .help = "Show the last ones that were created, in any state",
     .fallback = "-1"},
    {.name = "latest", .short_name = 'l', .help = "Show the last one that was created, in any state"},
    kNoTruncFlag,
    {.name = "quiet", .short_name = 'q', .help = "Print only ids"},
    {.name = "size", .short_name = 's', .help = "Show how much each has written"},
};
constexpr std::span<const Flag> kPsTables[] = {kPsFlags};

constexpr Column kPsColumns[] = {
    {"ID", "CONTAINER ID"},
    {"Names", "NAMES"},
    {"Image", "IMAGE"},
    {"Command", "COMMAND"},
    {"CreatedAt", "CREATED AT"},
    {"RunningFor", "CREATED"},
    {"Ports", "PORTS"},
    {"State", "STATE"},
    {"Status", "STATUS"},
    {"Size", "SIZE"},
    {"Labels", "LABELS"},
    {"Mounts", "MOUNTS"},
    {"LocalVolumes", "LOCAL VOLUMES"},
    {"Networks", "NETWORKS"},
    {"ImageID", "IMAGE ID"},
    {"Isolation", "ISOLATION"},
};

std::string join_labels(const std::map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : labels) parts.push_back(key + "=" + value);
  return join(parts, ",");
}

Value ps_row(const engine::WorkloadSummary& one, bool truncate, const std::string& size) {
  Value row = Value::object();
  row.set("ID", truncate ? short_id(one.id) : one.id);
  row.set("Names", one.name);
  row.set("Image", one.image);
  row.set("ImageID", truncate ? short_id(one.image_id.str()) : one.image_id.str());
  row.set("Command", quoted(truncate ? ellipsis(one.command, 20) : one.command));
  row.set("CreatedAt", format_local(one.created));
  row.set("RunningFor", ago(one.created));
  row.set("Ports", format_ports(one.ports));
  row.set("State", engine::to_string(one.status));
  row.set("Status", one.status_text);
  row.set("Size", size);
  row.set("Labels", join_labels(one.labels));
  row.set("Label", to_value(one.labels));
  std::vector<std::string> mounts;
  int64_t volumes = 0;
  for (const std::string& line : one.mounts) {
    const std::string mount = engine::read_mount_line(line).source;
    mounts.push_back(truncate ? ellipsis(mount, 15) : mount);
    volumes += mount.starts_with('/') ? 0 : 1;
  }
  row.set("Mounts", join(mounts, ","));
  row.set("LocalVolumes", std::to_string(volumes));
  row.set("Networks", one.network);
  row.set("Isolation", std::string(engine::to_string(one.isolation)));
  return row;
}

Result<int> ps_main(Context& context, const Parsed& parsed) {
  engine::ListFilter filter;
  filter.all = parsed.on("all");
  const int64_t last = parsed.number("last").value_or(-1);
  if (last > 0) filter.last = static_cast<int>(std::min<int64_t>(last, 1 << 30));
  if (parsed.on("latest")) filter.last = 1;
  if (filter.last > 0) filter.all = true;
  TRY_ASSIGN(filter.filters,
             parse_filters(parsed.values("filter"),
                           {"ancestor", "before", "exited", "expose", "health", "id", "isolation", "label", "label!",
                            "name", "network", "publish", "since", "status", "volume"}));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const auto workloads, engine->list(filter));
  const std::string_view format = parsed.value("format");
  const bool sized = parsed.on("size") || format.find(".Size") != std::string_view::npos;
  std::map<std::string, uint64_t> sizes;
  if (sized) {
    TRY_ASSIGN(const engine::DiskUsage usage, engine->disk_usage());
    for (const auto& item : usage.workloads) sizes[item.id] = item.size;
  }
  const bool truncate = !parsed.on("no-trunc");
  std::vector<Value> rows;
  rows.reserve(workloads.size());
  for (const auto& one : workloads) {
    const auto size = sizes.find(one.id);
    rows.push_back(ps_row(one, truncate, format_size(size == sizes.end() ? 0 : size->second)));
  }
  Listing listing = {kPsColumns, {"ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"}, "ID"};
  // Beside Docker's columns only where it tells something.
  const auto is_vm = [](const auto& one) { return one.isolation == engine::Isolation::kVm; };
  if (std::any_of(workloads.begin(), workloads.end(), is_vm)) listing.columns.emplace_back("Isolation");
  if (parsed.on("size")) listing.columns.emplace_back("Size");
  TRY(print_rows(context.out, listing, format, parsed.on("quiet"), parsed.on("no-trunc"), rows));
  return 0;
}

Result<int> port_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::WorkloadDetails details, engine->inspect(parsed.arguments[0]));
  const auto host = [](const engine::PublishedPort& port) {
    const bool v6 = port.host_ip.find(':') != std::string::npos;
    return fmt::format("{}{}{}:{}", v6 ? "[" : "", port.host_ip, v6 ? "]" : "", port.host_port);
  };
  if (parsed.arguments.size() == 1) {
    for (const auto& port : details.summary.ports) {
      if (port.host_port != 0) context.out.print("{}/{} -> {}\n", port.container_port, port.protocol, host(port));
    }
    return 0;
  }
  const std::string& wanted = parsed.arguments[1];
  const size_t slash = wanted.find('/');
  const std::string protocol = slash == std::string::npos ? "tcp" : lower(std::string_view(wanted).substr(slash + 1));
  TRY_ASSIGN(const int64_t number, parse_int(std::string_view(wanted).substr(0, slash), 1, 65535));
  bool any = false;
  for (const auto& port : details.summary.ports) {
    if (port.host_port == 0 || port.container_port != number || port.protocol != protocol) continue;
    context.out.print("{}\n", host(port));
    any = true;
  }
  if (!any) {
    return errorf(ErrorKind::kNotFound, "no public port '{}/{}' published for {}", number, protocol,
                  parsed.arguments[0]);
  }
  return 0;
}

Result<int> top_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  const std::vector<std::string> ps_args(parsed.arguments.begin() + 1, parsed.arguments.end());
  TRY_ASSIGN(auto rows, engine->top(parsed.arguments[0], ps_args));
  if (rows.empty()) return 0;
  Table table(std::move(rows.front()));
  for (size_t i = 1; i < rows.size(); ++i) table.add(std::move(rows[i]));
  context.out.write(table.render(0));
  return 0;
}

}  // namespace

constinit const Command kPs = {
    .path = "ps",
    .aliases = "container ls,container list,container ps",
    .summary = "List workloads",
    .description =
        "Filters: ancestor=IMAGE, before=WORKLOAD, exited=CODE, expose=PORT, id=, isolation=, "
        "label=KEY[=VALUE], name=, network=, publish=PORT, since=WORKLOAD, status=created|running|paused|"
        "exited|dead, volume=NAME|FOLDER.\n\n"
        "Fields of templates: .ID .Names .Image .ImageID .Command .CreatedAt .RunningFor .Ports .State "
        ".Status .Size .Labels .Label \"key\" .Mounts .LocalVolumes .Networks .Isolation",
    .examples = "hull ps -a\nhull ps --filter status=exited --format '{{.ID}}\\t{{.Names}}'\n",
    .flags = kPsTables,
    .section = Section::kCommon,
    .run = ps_main};

constinit const Command kPort = {.path = "port",
                                 .aliases = "container port",
                                 .arguments = "WORKLOAD [PORT[/PROTOCOL]]",
                                 .summary = "List the published ports of a workload",
                                 .least = 1,
                                 .most = 2,
                                 .complete = Complete::kRunning,
                                 .run = port_main};

constinit const Command kTop = {.path = "top",
                                .aliases = "container top",
                                .arguments = "WORKLOAD [PS-OPTION...]",
                                .summary = "List the processes of a running workload",
                                .least = 1,
                                .most = -1,
                                .stop_at_first_argument = true,
                                .complete = Complete::kRunning,
                                .run = top_main};

}  // namespace hull::cli
