// network connect, create, disconnect, inspect, ls, prune, rm.
#include <sys/socket.h>

#include <algorithm>

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

Result<std::map<std::string, std::string>> pairs_of(const Parsed& parsed, std::string_view flag) {
  std::map<std::string, std::string> pairs;
  for (const std::string& text : parsed.values(flag)) {
    TRY_ASSIGN(auto pair, parse_pair(text));
    pairs.insert_or_assign(std::move(pair.first), std::move(pair.second));
  }
  return pairs;
}

constexpr Flag kCreateFlags[] = {
    {.name = "attachable", .help = "Kept and shown; means nothing on one machine"},
    {.name = "aux-address",
     .kind = ValueKind::kText,
     .metavar = "NAME=IP",
     .help = "Address of something else, never given to a workload",
     .repeatable = true},
    {.name = "config-from", .kind = ValueKind::kText, .metavar = "NETWORK", .help = "", .hidden = true},
    {.name = "config-only", .help = "", .hidden = true},
    {.name = "driver",
     .short_name = 'd',
     .kind = ValueKind::kText,
     .metavar = "DRIVER",
     .help = "bridge, macvlan or ipvlan",
     .complete = Complete::kWords,
     .words = "bridge macvlan ipvlan",
     .fallback = "bridge"},
    {.name = "gateway",
     .kind = ValueKind::kText,
     .metavar = "IP",
     .help = "Address of the router in the subnet",
     .repeatable = true},
    {.name = "ingress", .help = "", .hidden = true},
    {.name = "internal", .help = "No way out of it, and none into it but from this host"},
    {.name = "ip-range",
     .kind = ValueKind::kText,
     .metavar = "SUBNET",
     .help = "Part of the subnet from which workloads get their addresses",
     .repeatable = true},
    {.name = "ipam-driver",
     .kind = ValueKind::kText,
     .metavar = "DRIVER",
     .help = "",
     .hidden = true,
     .fallback = "default"},
    {.name = "ipam-opt",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "",
     .repeatable = true,
     .hidden = true},
    {.name = "ipv4", .help = "Have IPv4; every network has", .hidden = true},
    {.name = "ipv6", .help = "Have IPv6"},
    {.name = "label", .kind = ValueKind::kText, .metavar = "KEY=VALUE", .help = "Attach a label", .repeatable = true},
    {.name = "opt",
     .short_name = 'o',
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Option of the driver",
     .repeatable = true},
    {.name = "scope", .kind = ValueKind::kText, .metavar = "SCOPE", .help = "", .hidden = true},
    {.name = "subnet",
     .kind = ValueKind::kText,
     .metavar = "SUBNET",
     .help = "10.5.0.0/16, fd00:5::/64; one of each family",
     .repeatable = true},
};
constexpr std::span<const Flag> kCreateTables[] = {kCreateFlags};

// Gives each gateway, range and aux address to the subnet that it lies in, as Docker's command line does.
Result<std::vector<net::IpamPool>> pools_of(const Parsed& parsed) {
  std::vector<net::IpamPool> pools;
  for (const std::string& text : parsed.values("subnet")) {
    TRY_ASSIGN(const net::Subnet subnet, net::Subnet::parse(text));
    for (const net::IpamPool& other : pools) {
      if (other.subnet->overlaps(subnet)) {
        return errorf(ErrorKind::kInvalid, "multiple overlapping subnet configuration is not supported");
      }
    }
    pools.emplace_back().subnet = subnet;
  }
  const auto pool_with = [&](const net::IpAddress& address) -> net::IpamPool* {
    const auto it = std::find_if(pools.begin(), pools.end(),
                                 [&](const net::IpamPool& pool) { return pool.subnet->contains(address); });
    return it == pools.end() ? nullptr : &*it;
  };
  const auto missing = [](std::string_view what, std::string_view value) {
    return errorf(ErrorKind::kInvalid, "no matching subnet for {} {}", what, value);
  };
  for (const std::string& text : parsed.values("ip-range")) {
    TRY_ASSIGN(const net::Subnet range, net::Subnet::parse(text));
    net::IpamPool* const pool = pool_with(range.base());
    if (pool == nullptr) return missing("range", text);
    if (pool->range) {
      return errorf(ErrorKind::kInvalid, "cannot configure multiple ranges ({}, {}) on the same subnet ({})",
                    pool->range->str(), text, pool->subnet->str());
    }
    pool->range = range;
  }
  for (const std::string& text : parsed.values("gateway")) {
    TRY_ASSIGN(const net::IpAddress gateway, net::IpAddress::parse(text));
    net::IpamPool* const pool = pool_with(gateway);
    if (pool == nullptr) return missing("gateway", text);
    if (pool->gateway) {
      return errorf(ErrorKind::kInvalid, "cannot configure multiple gateways ({}, {}) for the same subnet ({})", text,
                    pool->gateway->str(), pool->subnet->str());
    }
    pool->gateway = gateway;
  }
  TRY_ASSIGN(const auto taken, pairs_of(parsed, "aux-address"));
  for (const auto& [name, text] : taken) {
    TRY_ASSIGN(const net::IpAddress address, net::IpAddress::parse(text));
    net::IpamPool* const pool = pool_with(address);
    if (pool == nullptr) return missing("aux-address", text);
    pool->taken.emplace(name, address);
  }
  return pools;
}

Result<int> create_main(Context& context, const Parsed& parsed) {
  for (const std::string_view swarm : {"config-from", "config-only", "ingress"}) {
    if (parsed.has(swarm)) return errorf(ErrorKind::kUnsupported, "--{} belongs to swarm, which Hull has not", swarm);
  }
  const std::string_view scope = parsed.value("scope", "local");
  if (scope != "local") return errorf(ErrorKind::kUnsupported, "--scope {}: there is local", scope);
  net::NetworkRequest request;
  request.name = parsed.arguments[0];
  request.driver = parsed.value("driver", "bridge");
  request.internal = parsed.on("internal");
  request.attachable = parsed.on("attachable");
  request.ipv4 = !parsed.has("ipv4") || parsed.on("ipv4");
  request.ipv6 = parsed.on("ipv6");
  request.ipam_driver = parsed.value("ipam-driver", "default");
  TRY_ASSIGN(request.ipam_options, pairs_of(parsed, "ipam-opt"));
  TRY_ASSIGN(request.options, pairs_of(parsed, "opt"));
  TRY_ASSIGN(request.labels, pairs_of(parsed, "label"));
  TRY_ASSIGN(request.pools, pools_of(parsed));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const net::Network network, engine->network_create(request));
  context.out.print("{}\n", network.id);
  return 0;
}

constexpr Flag kConnectFlags[] = {
    {.name = "alias",
     .kind = ValueKind::kText,
     .metavar = "NAME",
     .help = "Name on the network, for the others on it",
     .repeatable = true},
    {.name = "driver-opt",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "com.docker.network.endpoint.ifname=NAME",
     .repeatable = true},
    {.name = "gw-priority",
     .kind = ValueKind::kInt,
     .metavar = "NUMBER",
     .help = "Of several networks the one with the highest has the default route",
     .fallback = "0"},
    {.name = "ip", .kind = ValueKind::kText, .metavar = "IP", .help = "IPv4 address in the network"},
    {.name = "ip6", .kind = ValueKind::kText, .metavar = "IP", .help = "IPv6 address in the network"},
    {.name = "link",
     .kind = ValueKind::kText,
     .metavar = "WORKLOAD[:ALIAS]",
     .help = "Know another workload by a name",
     .repeatable = true,
     .complete = Complete::kWorkload},
    {.name = "link-local-ip",
     .kind = ValueKind::kText,
     .metavar = "IP",
     .help = "",
     .repeatable = true,
     .hidden = true},
};
constexpr std::span<const Flag> kConnectTables[] = {kConnectFlags};

Result<int> connect_main(Context& context, const Parsed& parsed) {
  if (parsed.has("link-local-ip")) {
    return errorf(ErrorKind::kUnsupported,
                  "--link-local-ip is not there: the link-local address follows from the MAC address");
  }
  engine::NetworkAttachment attachment;
  attachment.aliases = parsed.values("alias");
  attachment.links = parsed.values("link");
  attachment.ipv4 = parsed.value("ip");
  attachment.ipv6 = parsed.value("ip6");
  if (!attachment.ipv4.empty()) TRY(check_ip(attachment.ipv4, AF_INET));
  if (!attachment.ipv6.empty()) TRY(check_ip(attachment.ipv6, AF_INET6));
  TRY_ASSIGN(attachment.driver_options, pairs_of(parsed, "driver-opt"));
  TRY_ASSIGN(const int64_t priority, parse_int(parsed.value("gw-priority", "0"), INT32_MIN, INT32_MAX));
  attachment.gateway_priority = static_cast<int>(priority);
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->network_connect(parsed.arguments[0], parsed.arguments[1], attachment));
  return 0;
}

constexpr Flag kDisconnectFlags[] = {
    {.name = "force", .short_name = 'f', .help = "Also a workload that is no more"},
};
constexpr std::span<const Flag> kDisconnectTables[] = {kDisconnectFlags};

Result<int> disconnect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->network_disconnect(parsed.arguments[0], parsed.arguments[1], parsed.on("force")));
  return 0;
}

constexpr Flag kInspectFlags[] = {
    kDocumentFormatFlag,
    {.name = "verbose", .short_name = 'v', .help = "", .hidden = true},  // of swarm's services, which there are none of
};
constexpr std::span<const Flag> kInspectTables[] = {kInspectFlags};

Result<int> inspect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  std::vector<Value> documents;
  const int code = for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(const auto info, engine->network_inspect(name));
    TRY_ASSIGN(Value document, Value::parse(info.json));
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
    {"ID", "NETWORK ID"}, {"Name", "NAME"},         {"Driver", "DRIVER"}, {"Scope", "SCOPE"},          {"IPv4", "IPV4"},
    {"IPv6", "IPV6"},     {"Internal", "INTERNAL"}, {"Labels", "LABELS"}, {"CreatedAt", "CREATED AT"},
};

Value row_of(const net::Network& network, bool whole_id) {
  std::vector<std::string> labels;
  for (const auto& [key, value] : network.labels) labels.push_back(key + "=" + value);
  const bool has_addresses = network.driver != net::Driver::kHost && network.driver != net::Driver::kNull;
  const auto created = std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(network.created_ns)));
  Value row = Value::object();
  row.set("ID", whole_id ? network.id : network.id.substr(0, 12)).set("Name", network.name);
  row.set("Driver", net::to_string(network.driver)).set("Scope", "local");
  row.set("IPv4", has_addresses ? "true" : "false").set("IPv6", network.subnet6 ? "true" : "false");
  row.set("Internal", network.internal ? "true" : "false");
  row.set("Labels", join(labels, ",")).set("Label", to_value(network.labels));
  row.set("CreatedAt", network.created_ns == 0 ? "" : format_rfc3339(created));
  return row;
}

Result<int> list_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto filters,
             parse_filters(parsed.values("filter"), {"dangling", "driver", "id", "label", "name", "scope", "type"}));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(auto networks, engine->network_list(filters));
  std::sort(networks.begin(), networks.end(),
            [](const auto& a, const auto& b) { return a.network.name < b.network.name; });
  std::vector<Value> rows;
  for (const auto& one : networks) rows.push_back(row_of(one.network, parsed.on("no-trunc")));
  const Listing listing = {kColumns, {"ID", "Name", "Driver", "Scope"}, "ID"};
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), parsed.on("no-trunc"), rows));
  return 0;
}

constexpr Flag kPruneFlags[] = {
    {.name = "filter",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Only those: label=KEY[=VALUE], label!=..., until=TIME",
     .repeatable = true},
    {.name = "force", .short_name = 'f', .help = "Do not ask"},
};
constexpr std::span<const Flag> kPruneTables[] = {kPruneFlags};

Result<int> prune_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto filters, parse_filters(parsed.values("filter"), {"label", "label!", "until"}));
  if (!parsed.on("force")) {
    TRY_ASSIGN(const bool yes,
               confirm(context, "WARNING! This will remove all custom networks not used by at least one container."));
    if (!yes) return 0;
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const std::vector<std::string> removed, engine->network_prune(filters));
  if (!removed.empty()) context.out.write("Deleted Networks:\n");
  for (const std::string& name : removed) context.out.print("{}\n", name);
  if (!removed.empty()) context.out.write("\n");
  return 0;
}

constexpr Flag kRemoveFlags[] = {
    {.name = "force", .short_name = 'f', .help = "No error when it is not there"},
};
constexpr std::span<const Flag> kRemoveTables[] = {kRemoveFlags};

Result<int> remove_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    const auto removed = engine->network_remove(name);
    const bool absent = !removed.ok() && removed.error().kind() == ErrorKind::kNotFound;
    if (!removed.ok() && !(absent && parsed.on("force"))) return removed.error();
    if (!absent) context.out.print("{}\n", name);
    return {};
  });
}

}  // namespace

constinit const Command kNetworkConnect = {
    .path = "network connect",
    .arguments = "NETWORK WORKLOAD",
    .summary = "Put a workload on a network too",
    .description = "One that runs gets its interface at once; one that does not, when it starts.",
    .flags = kConnectTables,
    .least = 2,
    .most = 2,
    .complete = Complete::kNetwork,
    .section = Section::kNetworks,
    .run = connect_main};

constinit const Command kNetworkCreate = {
    .path = "network create",
    .arguments = "NETWORK",
    .summary = "Create a network",
    .description =
        "Workloads on a network of yours find one another by name and alias. No traffic passes from one network to "
        "another, but to published ports.\n\n"
        "Options (-o) of bridge: com.docker.network.bridge.name=DEVICE, com.docker.network.bridge.enable_icc=false "
        "(its "
        "workloads do not reach one another), com.docker.network.bridge.enable_ip_masquerade=false, "
        "com.docker.network.bridge.host_binding_ipv4=IP (where ports are published that name no address). Of macvlan: "
        "parent=INTERFACE[.VLAN], macvlan_mode=bridge|private|vepa|passthru. Of ipvlan: parent=, "
        "ipvlan_mode=l2|l3|l3s, ipvlan_flag=bridge|private|vepa. Of all: com.docker.network.driver.mtu=BYTES, "
        "com.docker.network.container_iface_prefix=NAME. A VLAN that is not there is made, and removed with the "
        "network.",
    .examples =
        "hull network create shop\n"
        "hull network create --subnet 10.5.0.0/16 --gateway 10.5.0.254 --ip-range 10.5.1.0/24 shop\n"
        "hull network create -d macvlan -o parent=eth0.10 --subnet 192.168.10.0/24 office\n",
    .flags = kCreateTables,
    .least = 1,
    .most = 1,
    .section = Section::kNetworks,
    .run = create_main};

constinit const Command kNetworkDisconnect = {.path = "network disconnect",
                                              .arguments = "NETWORK WORKLOAD",
                                              .summary = "Take a workload off a network",
                                              .flags = kDisconnectTables,
                                              .least = 2,
                                              .most = 2,
                                              .complete = Complete::kNetwork,
                                              .section = Section::kNetworks,
                                              .run = disconnect_main};

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
    .description =
        "Filters: dangling=true|false, driver=, id=, label=KEY[=VALUE], name=, scope=, type=builtin|custom.\n\nFields "
        "of "
        "templates: .ID .Name .Driver .Scope .IPv4 .IPv6 .Internal .Labels .Label \"key\" .CreatedAt",
    .flags = kListTables,
    .section = Section::kNetworks,
    .run = list_main};

constinit const Command kNetworkPrune = {.path = "network prune",
                                         .summary = "Remove networks that no workload runs on",
                                         .flags = kPruneTables,
                                         .section = Section::kNetworks,
                                         .run = prune_main};

constinit const Command kNetworkRemove = {.path = "network rm",
                                          .aliases = "network remove",
                                          .arguments = "NETWORK [NETWORK...]",
                                          .summary = "Remove networks that no workload runs on",
                                          .flags = kRemoveTables,
                                          .least = 1,
                                          .most = -1,
                                          .complete = Complete::kNetwork,
                                          .section = Section::kNetworks,
                                          .run = remove_main};

}  // namespace hull::cli
