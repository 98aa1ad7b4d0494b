// volume create, inspect, ls, prune, rm.
#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/documents.h"
#include "cli/filters.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/values.h"

namespace hull::cli {
namespace {

constexpr Flag kCreateFlags[] = {
    {.name = "driver",
     .short_name = 'd',
     .kind = ValueKind::kText,
     .metavar = "NAME",
     .help = "Volume driver",
     .complete = Complete::kWords,
     .words = "local",
     .fallback = "local"},
    {.name = "label", .kind = ValueKind::kText, .metavar = "KEY=VALUE", .help = "Attach a label", .repeatable = true},
    {.name = "name", .kind = ValueKind::kText, .metavar = "NAME", .help = "", .hidden = true},
    {.name = "opt",
     .short_name = 'o',
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Option of the driver, for local those of mount: type=, device=, o=",
     .repeatable = true},
};
constexpr std::span<const Flag> kCreateTables[] = {kCreateFlags};

Result<std::map<std::string, std::string>> pairs_of(const Parsed& parsed, std::string_view flag) {
  std::map<std::string, std::string> pairs;
  for (const std::string& text : parsed.values(flag)) {
    TRY_ASSIGN(auto pair, parse_pair(text));
    pairs.insert_or_assign(std::move(pair.first), std::move(pair.second));
  }
  return pairs;
}

Result<int> create_main(Context& context, const Parsed& parsed) {
  std::string name(parsed.value("name"));
  if (!parsed.arguments.empty()) {
    if (!name.empty()) return errorf(ErrorKind::kInvalid, "conflicting options: either --name or a name, not both");
    name = parsed.arguments[0];
  }
  TRY_ASSIGN(auto labels, pairs_of(parsed, "label"));
  TRY_ASSIGN(auto options, pairs_of(parsed, "opt"));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::Volume volume, engine->volume_create(name, std::string(parsed.value("driver", "local")),
                                                                std::move(options), std::move(labels)));
  context.out.print("{}\n", volume.name);
  return 0;
}

constexpr Flag kInspectFlags[] = {kDocumentFormatFlag};
constexpr std::span<const Flag> kInspectTables[] = {kInspectFlags};

Result<int> inspect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  std::vector<Value> documents;
  const int code = for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(const engine::Volume volume, engine->volume_inspect(name));
    documents.push_back(volume_document(volume));
    return {};
  });
  TRY(print_inspected(context.out, parsed.value("format"), documents));
  return code;
}

constexpr Flag kListFlags[] = {
    kFilterFlag,
    kFormatFlag,
    {.name = "quiet", .short_name = 'q', .help = "Print only names"},
};
constexpr std::span<const Flag> kListTables[] = {kListFlags};

constexpr Column kColumns[] = {
    {"Driver", "DRIVER"}, {"Name", "VOLUME NAME"}, {"Scope", "SCOPE"}, {"Mountpoint", "MOUNTPOINT"},
    {"Labels", "LABELS"}, {"Links", "LINKS"},      {"Size", "SIZE"},
};

Result<int> list_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto filters,
             parse_filters(parsed.values("filter"), {"dangling", "driver", "label", "label!", "name"}));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const auto volumes, engine->volume_list(filters));
  std::vector<Value> rows;
  for (const engine::Volume& volume : volumes) {
    std::vector<std::string> labels;
    for (const auto& [key, value] : volume.labels) labels.push_back(key + "=" + value);
    Value row = Value::object();
    row.set("Driver", volume.driver).set("Name", volume.name).set("Scope", volume.scope);
    row.set("Mountpoint", volume.mountpoint).set("Labels", join(labels, ",")).set("Label", to_value(volume.labels));
    row.set("Links", std::to_string(volume.references));
    row.set("Size", volume.size ? format_size(*volume.size) : "N/A");
    rows.push_back(std::move(row));
  }
  const Listing listing = {kColumns, {"Driver", "Name"}, "Name"};
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), false, rows));
  return 0;
}

constexpr Flag kPruneFlags[] = {
    {.name = "all", .short_name = 'a', .help = "Remove named ones too, not only anonymous ones"},
    {.name = "filter",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Only those: label=KEY[=VALUE], label!=...",
     .repeatable = true},
    {.name = "force", .short_name = 'f', .help = "Do not ask"},
};
constexpr std::span<const Flag> kPruneTables[] = {kPruneFlags};

Result<int> prune_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto filters, parse_filters(parsed.values("filter"), {"label", "label!"}));
  const bool all = parsed.on("all");
  if (!parsed.on("force")) {
    TRY_ASSIGN(const bool yes,
               confirm(context, all ? "WARNING! This will remove all local volumes not used by at least one container."
                                    : "WARNING! This will remove anonymous local volumes not used by at least one "
                                      "container."));
    if (!yes) return 0;
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const store::PruneReport report, engine->volume_prune(all, filters));
  if (!report.deleted.empty()) context.out.write("Deleted Volumes:\n");
  for (const std::string& name : report.deleted) context.out.print("{}\n", name);
  if (!report.deleted.empty()) context.out.write("\n");
  context.out.print("Total reclaimed space: {}\n", format_size(report.reclaimed));
  return 0;
}

constexpr Flag kRemoveFlags[] = {
    {.name = "force", .short_name = 'f', .help = "No error when it is not there"},
};
constexpr std::span<const Flag> kRemoveTables[] = {kRemoveFlags};

Result<int> remove_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY(engine->volume_remove(name, parsed.on("force")));
    context.out.print("{}\n", name);
    return {};
  });
}

}  // namespace

constinit const Command kVolumeCreate = {.path = "volume create",
                                         .arguments = "[VOLUME]",
                                         .summary = "Create a volume",
                                         .examples = "hull volume create data\nhull volume create --label app=db\n",
                                         .flags = kCreateTables,
                                         .most = 1,
                                         .section = Section::kVolumes,
                                         .run = create_main};

constinit const Command kVolumeInspect = {.path = "volume inspect",
                                          .arguments = "VOLUME [VOLUME...]",
                                          .summary = "Tell all about volumes",
                                          .flags = kInspectTables,
                                          .least = 1,
                                          .most = -1,
                                          .complete = Complete::kVolume,
                                          .section = Section::kVolumes,
                                          .run = inspect_main};

constinit const Command kVolumeList = {
    .path = "volume ls",
    .aliases = "volume list",
    .summary = "List volumes",
    .description =
        "Filters: dangling=true|false, driver=, label=KEY[=VALUE], name=.\n\nFields of templates: .Driver "
        ".Name .Scope .Mountpoint .Labels .Label \"key\" .Links .Size",
    .flags = kListTables,
    .section = Section::kVolumes,
    .run = list_main};

constinit const Command kVolumePrune = {.path = "volume prune",
                                        .summary = "Remove volumes that no workload uses",
                                        .flags = kPruneTables,
                                        .section = Section::kVolumes,
                                        .run = prune_main};

constinit const Command kVolumeRemove = {.path = "volume rm",
                                         .aliases = "volume remove",
                                         .arguments = "VOLUME [VOLUME...]",
                                         .summary = "Remove volumes that no workload uses",
                                         .flags = kRemoveTables,
                                         .least = 1,
                                         .most = -1,
                                         .complete = Complete::kVolume,
                                         .section = Section::kVolumes,
                                         .run = remove_main};

}  // namespace hull::cli
