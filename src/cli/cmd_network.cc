// network inspect, ls: the networks that are always there.
#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/documents.h"
#include "cli/filters.h"
#include "cli/table.h"

namespace hull::cli {
namespace {

constexpr Flag kInspectFlags[] = {kDocumentFormatFlag};
constexpr std::span<const Flag> kInspectTables[] = {kInspectFlags};

Result<int> inspect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  std::vector<Value> documents;
  const int code = for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(Value document, network_document(*engine, name));
    documents.push_back(std::move(document));
    return {};
  });
  TRY(print_inspected(context.out, parsed.value("format"), documents));
  return code;
}

constexpr Flag kListFlags[] = {
    kFilterFlag,
    kFormatFlag,
    kNoTruncFlag,
    {.name = "quiet", .short_name = 'q', .help = "Print only ids"},
};
constexpr std::span<const Flag> kListTables[] = {kListFlags};

constexpr Column kColumns[] = {
    {"ID", "NETWORK ID"},
    {"Name", "NAME"},
    {"Driver", "DRIVER"},
    {"Scope", "SCOPE"},
};

Result<int> list_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto filters, parse_filters(parsed.values("filter"), {"driver", "id", "name", "scope"}));
  const auto meets = [&](std::string_view key, std::string_view value, bool part) {
    const auto [first, last] = filters.equal_range(std::string(key));
    if (first == last) return true;
    for (auto it = first; it != last; ++it) {
      if (part ? value.find(it->second) != std::string_view::npos : value == it->second) return true;
    }
    return false;
  };
  std::vector<Value> rows;
  for (const DefaultNetwork& network : default_networks()) {
    const std::string id = network_id(network.name);
    if (!meets("driver", network.driver, false) || !meets("name", network.name, true) || !meets("id", id, true) ||
        !meets("scope", "local", false)) {
      continue;
    }
    Value row = Value::object();
    row.set("ID", parsed.on("no-trunc") ? id : id.substr(0, 12)).set("Name", network.name);
    row.set("Driver", network.driver).set("Scope", "local");
    rows.push_back(std::move(row));
  }
  const Listing listing = {kColumns, {"ID", "Name", "Driver", "Scope"}, "ID"};
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), parsed.on("no-trunc"), rows));
  return 0;
}

}  // namespace

constinit const Command kNetworkInspect = {.path = "network inspect",
                                           .arguments = "NETWORK [NETWORK...]",
                                           .summary = "Tell all about networks",
                                           .flags = kInspectTables,
                                           .least = 1,
                                           .most = -1,
                                           .complete = Complete::kNetwork,
                                           .section = Section::kNetworks,
                                           .run = inspect_main};

constinit const Command kNetworkList = {
    .path = "network ls",
    .aliases = "network list",
    .summary = "List networks",
    .description = "Filters: driver=, id=, name=, scope=.\n\nFields of templates: .ID .Name .Driver .Scope",
    .flags = kListTables,
    .section = Section::kNetworks,
    .run = list_main};

}  // namespace hull::cli
