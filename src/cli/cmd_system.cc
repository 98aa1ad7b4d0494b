// version, info, doctor, system df, system check, system prune.
#include <sys/utsname.h>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/filters.h"
#include "cli/format.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/values.h"
#include "rootless/rootless.h"

namespace hull::cli {
namespace {

constexpr Flag kDocumentFlags[] = {kDocumentFormatFlag};
constexpr std::span<const Flag> kDocumentTables[] = {kDocumentFlags};

std::string architecture(const utsname& host) {
  const std::string_view machine = host.machine;
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return std::string(machine);
}

Result<int> version_main(Context& context, const Parsed& parsed) {
  utsname host{};
  if (::uname(&host) != 0) return errno_error("ask the kernel for its version");
  const std::string arch = architecture(host);
  if (!parsed.has("format")) {
    context.out.print("Hull:\n Version:    {}\n OS/Arch:    linux/{}\n Kernel:     {}\n Compiler:   {}\n", HULL_VERSION,
                      arch, host.release, __VERSION__);
    return 0;
  }
  // Docker's document has a client and a server; here both are this program.
  Value one = Value::object();
  one.set("Version", HULL_VERSION).set("Os", "linux").set("Arch", arch).set("KernelVersion", host.release);
  Value server = one;
  server.set("Components", Value::array().push(Value::object().set("Name", "Engine").set("Version", HULL_VERSION)));
  Value document = Value::object();
  document.set("Client", std::move(one)).set("Server", std::move(server));
  TRY(print_documents(context.out, parsed.value("format"), {document}));
  return 0;
}

/// "CgroupDriver" as "Cgroup Driver".
std::string spaced(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool upper = name[i] >= 'A' && name[i] <= 'Z';
    const bool after_lower = i > 0 && !(name[i - 1] >= 'A' && name[i - 1] <= 'Z');
    if (upper && after_lower) out += ' ';
    out += name[i];
  }
  return out;
}

void print_tree(Output& out, const Value::Object& members, int depth) {
  const std::string indent(static_cast<size_t>(depth) + 1, ' ');
  for (const auto& [key, value] : members) {
    if (const auto* inner = value.if_object()) {
      if (inner->empty()) continue;
      out.print("{}{}:\n", indent, spaced(key));
      print_tree(out, *inner, depth + 1);
    } else if (const auto* items = value.if_array()) {
      out.print("{}{}:", indent, spaced(key));
      for (const Value& item : *items) out.print(" {}", item.if_string() != nullptr ? *item.if_string() : item.dump());
      out.write("\n");
    } else if (!value.is_null()) {
      const bool bytes = key == "MemTotal" && value.if_int() != nullptr;
      const std::string text = bytes ? format_size_binary(static_cast<uint64_t>(*value.if_int()))
                               : value.if_string() != nullptr ? *value.if_string()
                                                              : value.dump();
      out.print("{}{}: {}\n", indent, spaced(key), printable(text));
    }
  }
}

Result<int> info_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const std::string json, engine->info_json());
  TRY_ASSIGN(const Value document, Value::parse(json));
  if (parsed.has("format")) {
    TRY(print_documents(context.out, parsed.value("format"), {document}));
    return 0;
  }
  context.out.write("Hull:\n");
  if (const auto* members = document.if_object()) print_tree(context.out, *members, 0);
  return 0;
}

constexpr Flag kDoctorFlags[] = {
    {.name = "format",
     .kind = ValueKind::kText,
     .metavar = "FORMAT",
     .help = "table, json, or a template with .Verdict .Subject .Finding .Advice"},
};
constexpr std::span<const Flag> kDoctorTables[] = {kDoctorFlags};

constexpr Column kDoctorColumns[] = {
    {"Verdict", "VERDICT"}, {"Subject", "SUBJECT"}, {"Finding", "FINDING"}, {"Advice", "ADVICE"}};

// An ordinary user who can't get as far as an engine is told of everything that is missing, not only of the first.
Result<std::vector<engine::Check>> checks_of(Context& context) {
  auto engine = context.engine();
  if (engine.ok()) return (*engine)->doctor();
  std::vector<engine::Check> out;
  if (rootless::needed()) {
    for (rootless::Lack& lack : rootless::lacks()) {
      out.push_back(
          {engine::Check::Verdict::kBad, std::move(lack.subject), std::move(lack.finding), std::move(lack.advice)});
    }
  }
  if (out.empty()) return std::move(engine).error();
  return out;
}

Result<int> doctor_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto checks, checks_of(context));
  using Verdict = engine::Check::Verdict;
  const auto word = [](Verdict verdict) {
    return verdict == Verdict::kGood ? "good" : verdict == Verdict::kNote ? "note" : "bad";
  };
  int bad = 0, notes = 0;
  std::vector<Value> rows;
  for (const engine::Check& check : checks) {
    bad += check.verdict == Verdict::kBad ? 1 : 0;
    notes += check.verdict == Verdict::kNote ? 1 : 0;
    Value row = Value::object();
    row.set("Verdict", word(check.verdict)).set("Subject", check.subject);
    row.set("Finding", check.finding).set("Advice", check.advice);
    rows.push_back(std::move(row));
  }
  const int code = bad > 0 ? 1 : 0;
  if (parsed.has("format")) {
    TRY(print_rows(context.out, {kDoctorColumns, {"Verdict", "Subject", "Finding", "Advice"}, "Subject", {}},
                   parsed.value("format"), false, true, rows));
    return code;
  }
  int subject_width = 0;
  for (const engine::Check& check : checks) subject_width = std::max(subject_width, display_width(check.subject));
  const int width = std::max(text_width(context.out) - subject_width - 8, 30);
  for (const engine::Check& check : checks) {
    const std::string_view colour = check.verdict == Verdict::kGood   ? "\x1b[32m"
                                    : check.verdict == Verdict::kNote ? "\x1b[33m"
                                                                      : "\x1b[31m";
    const bool colours = context.out.colours();
    bool first = true;
    for (const std::string& line : wrap(printable(check.finding), width)) {
      const std::string subject = first ? printable(check.subject) : "";
      context.out.print(
          "{}{:<4}{}  {}{}  {}\n", colours ? colour : "", first ? word(check.verdict) : "", colours ? "\x1b[0m" : "",
          subject, std::string(static_cast<size_t>(std::max(subject_width - display_width(subject), 0)), ' '), line);
      first = false;
    }
    for (const std::string& line : wrap(printable(check.advice), width)) {
      context.out.print("{}> {}\n", std::string(static_cast<size_t>(subject_width) + 8, ' '), line);
    }
  }
  if (bad > 0) {
    context.out.print("\n{} of {} checks are bad: Hull will not work as it should until they are put right.\n", bad,
                      checks.size());
  } else if (notes > 0) {
    context.out.print("\nHull can work here; {} of {} checks are worth a look.\n", notes, checks.size());
  } else {
    context.out.print("\nAll {} checks are good.\n", checks.size());
  }
  return code;
}

constexpr Flag kDfFlags[] = {
    kFormatFlag,
    {.name = "verbose", .short_name = 'v', .help = "Show each workload and volume"},
};
constexpr std::span<const Flag> kDfTables[] = {kDfFlags};

constexpr Column kDfColumns[] = {
    {"Type", "TYPE"}, {"TotalCount", "TOTAL"}, {"Active", "ACTIVE"}, {"Size", "SIZE"}, {"Reclaimable", "RECLAIMABLE"}};

Value df_row(std::string_view type, size_t total, size_t active, uint64_t size, uint64_t reclaimable) {
  Value row = Value::object();
  row.set("Type", type).set("TotalCount", std::to_string(total)).set("Active", std::to_string(active));
  row.set("Size", format_size(size));
  std::string text = format_size(reclaimable);
  if (size > 0) text += fmt::format(" ({}%)", reclaimable * 100 / size);
  row.set("Reclaimable", text);
  return row;
}

Value df_items(std::string_view type, const std::vector<engine::DiskUsage::Item>& items) {
  size_t active = 0;
  uint64_t size = 0, reclaimable = 0;
  for (const auto& item : items) {
    active += item.in_use ? 1 : 0;
    size += item.size;
    reclaimable += item.in_use ? 0 : item.size;
  }
  return df_row(type, items.size(), active, size, reclaimable);
}

void print_items(Output& out, std::string_view title, const std::vector<engine::DiskUsage::Item>& items) {
  out.print("\n{}:\n\n", title);
  Table table({"ID", "NAME", "DETAIL", "IN USE", "SIZE"});
  for (const auto& item : items) {
    table.add({short_id(item.id), item.name, item.detail, item.in_use ? "yes" : "no", format_size(item.size)});
  }
  out.write(table.render(out.columns(), std::vector<std::string_view>{"ID", "NAME"}));
}

Result<int> df_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::DiskUsage usage, engine->disk_usage());
  const auto count = [](int number) { return static_cast<size_t>(std::max(number, 0)); };
  const std::vector<Value> rows = {
      df_row("Images", count(usage.images.images), count(usage.images.images_in_use), usage.images.layers_bytes,
             usage.images.reclaimable_bytes),
      df_items("Containers", usage.workloads),
      df_items("Local Volumes", usage.volumes),
  };
  const bool verbose = parsed.on("verbose");
  if (verbose && parsed.has("format")) {
    return errorf(ErrorKind::kInvalid, "the verbose and the format options conflict");
  }
  const Listing listing = {kDfColumns, {"Type", "TotalCount", "Active", "Size", "Reclaimable"}, "Type", {"Type"}};
  TRY(print_rows(context.out, listing, parsed.value("format"), false, false, rows));
  if (verbose) {
    print_items(context.out, "Containers", usage.workloads);
    print_items(context.out, "Local Volumes", usage.volumes);
  }
  return 0;
}

constexpr Flag kCheckFlags[] = {
    {.name = "deep", .help = "Read every stored layer and verify its digest"},
    {.name = "repair", .help = "Put right what can be put right", .fallback = "true"},
};
constexpr std::span<const Flag> kCheckTables[] = {kCheckFlags};

Result<int> check_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  const bool repair = parse_bool(parsed.value("repair", "true")).value_or(true);
  TRY_ASSIGN(const store::CheckReport report, engine->check(parsed.on("deep"), repair));
  for (const std::string& problem : report.problems) context.out.print("problem:  {}\n", printable(problem));
  for (const std::string& done : report.repaired) context.out.print("repaired: {}\n", printable(done));
  const size_t open = report.problems.size() - std::min(report.problems.size(), report.repaired.size());
  if (report.problems.empty()) {
    context.out.write("All is well.\n");
  } else {
    context.out.print("{} problem{} found, {} repaired, {} reclaimed.\n", report.problems.size(),
                      report.problems.size() == 1 ? "" : "s", report.repaired.size(), format_size(report.reclaimed));
  }
  return open > 0 ? 1 : 0;
}

constexpr Flag kPruneFlags[] = {
    {.name = "all", .short_name = 'a', .help = "Remove every image that no workload uses, not only unnamed ones"},
    {.name = "filter",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Only those: until=TIME, label=KEY[=VALUE]",
     .repeatable = true},
    {.name = "force", .short_name = 'f', .help = "Do not ask"},
    {.name = "volumes", .help = "Remove anonymous volumes that no workload uses, too"},
};
constexpr std::span<const Flag> kPruneTables[] = {kPruneFlags};

Result<int> prune_main(Context& context, const Parsed& parsed) {
  const bool all = parsed.on("all"), volumes = parsed.on("volumes");
  TRY_ASSIGN(const auto filters, parse_filters(parsed.values("filter"), {"until", "label"}));
  if (volumes && filters.contains("until")) {
    return errorf(ErrorKind::kInvalid, "the \"until\" filter is not supported with \"--volumes\"");
  }
  std::vector<std::string> labels;
  auto until = engine::TimePoint::max();
  for (const auto& [key, value] : filters) {
    if (key == "label") labels.push_back(value);
    if (key == "until") {
      TRY_ASSIGN(until, parse_time(value, engine::TimePoint::clock::now()));
    }
  }
  if (!parsed.on("force")) {
    std::string warning =
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n";
    if (volumes) warning += "  - all anonymous volumes not used by at least one container\n";
    warning += all ? "  - all images without at least one container associated to them\n" : "  - all dangling images\n";
    TRY_ASSIGN(const bool yes, confirm(context, warning));
    if (!yes) return 0;
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  uint64_t reclaimed = 0;
  const auto show = [&](std::string_view title, const store::PruneReport& report) {
    reclaimed += report.reclaimed;
    if (report.deleted.empty()) return;
    context.out.print("{}:\n", title);
    for (const std::string& line : report.deleted) context.out.print("{}\n", line);
    context.out.write("\n");
  };
  // Workloads first: what they held is free after.
  TRY_ASSIGN(const auto workloads, engine->prune(filters));
  show("Deleted Containers", workloads);
  TRY_ASSIGN(const auto networks, engine->network_prune(filters));
  show("Deleted Networks", {networks, 0});
  if (volumes) {
    TRY_ASSIGN(const auto pruned, engine->volume_prune(false, filters));
    show("Deleted Volumes", pruned);
  }
  TRY_ASSIGN(const auto images, engine->images().prune(all, labels, until));
  show("Deleted Images", images);
  context.out.print("Total reclaimed space: {}\n", format_size(reclaimed));
  return 0;
}

}  // namespace

constinit const Command kVersion = {.path = "version",
                                    .summary = "Show the version",
                                    .flags = kDocumentTables,
                                    .section = Section::kCommon,
                                    .run = version_main};

constinit const Command kInfo = {.path = "info",
                                 .aliases = "system info",
                                 .summary = "Tell about this installation and machine",
                                 .flags = kDocumentTables,
                                 .section = Section::kCommon,
                                 .run = info_main};

constinit const Command kDoctor = {
    .path = "doctor",
    .aliases = "system doctor",
    .summary = "Check whether this machine has what Hull needs",
    .description =
        "Looks at the kernel, the control groups, the file systems, the network, what virtual machines need and Hull's "
        "own state, and says what to do about what it finds. The exit code is 1 when a check is bad.",
    .flags = kDoctorTables,
    .section = Section::kCommon,
    .run = doctor_main};

constinit const Command kSystemDf = {.path = "system df",
                                     .summary = "Show how much disk Hull uses",
                                     .flags = kDfTables,
                                     .section = Section::kSystem,
                                     .run = df_main};

constinit const Command kSystemCheck = {
    .path = "system check",
    .summary = "Verify what is stored, and repair it",
    .description =
        "Compares the index with the disk, removes what a crash left behind and repairs counts. The exit code "
        "is 1 when a problem stays.",
    .flags = kCheckTables,
    .section = Section::kSystem,
    .run = check_main};

constinit const Command kSystemPrune = {.path = "system prune",
                                        .summary = "Remove what nothing uses: workloads, images, volumes",
                                        .flags = kPruneTables,
                                        .section = Section::kSystem,
                                        .run = prune_main};

}  // namespace hull::cli
