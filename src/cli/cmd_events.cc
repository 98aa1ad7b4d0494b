// events.
#include <ctime>

#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/filters.h"
#include "cli/table.h"
#include "cli/template.h"
#include "cli/text.h"
#include "cli/value.h"
#include "cli/values.h"

namespace hull::cli {
namespace {

constexpr Flag kFlags[] = {
    kFilterFlag,
    {.name = "format",
     .kind = ValueKind::kText,
     .metavar = "FORMAT",
     .help = "json (one line an event), or a template such as '{{.Action}} {{.Actor.ID}}'"},
    {.name = "since",
     .kind = ValueKind::kText,
     .metavar = "TIME",
     .help = "First what happened from this time on: 2026-11-23T14:00:00Z, or 42m for 42 minutes ago"},
    {.name = "until", .kind = ValueKind::kText, .metavar = "TIME", .help = "End at this time"},
};
constexpr std::span<const Flag> kTables[] = {kFlags};

/// Go's RFC 3339 with nine digits, in local time.
std::string event_time(int64_t time_ns) {
  const auto seconds = static_cast<time_t>(time_ns / 1'000'000'000);
  tm parts{};
  ::localtime_r(&seconds, &parts);
  char day[64];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
  const long offset_min = parts.tm_gmtoff / 60;
  std::string zone = "Z";
  if (offset_min != 0) {
    const long size = offset_min < 0 ? -offset_min : offset_min;
    zone = fmt::format("{}{:02}:{:02}", offset_min < 0 ? '-' : '+', size / 60, size % 60);
  }
  return fmt::format("{}.{:09}{}", day, time_ns % 1'000'000'000, zone);
}

std::string plain_line(const engine::Event& event) {
  std::string attributes;
  for (const auto& [key, value] : event.attributes) {
    attributes += fmt::format("{}{}={}", attributes.empty() ? "" : ", ", key, value);
  }
  std::string line = fmt::format("{} {} {} {}", event_time(event.time_ns), event.type, event.action, event.actor);
  if (!attributes.empty()) line += " (" + attributes + ")";
  return printable(line);
}

/// With the names that Docker's templates have.
Value template_value(const engine::Event& event) {
  const auto image = event.attributes.find("image");
  const bool old = event.type == "container" || event.type == "image";
  Value actor = Value::object();
  actor.set("ID", event.actor).set("Attributes", to_value(event.attributes));
  Value value = Value::object();
  value.set("Type", event.type).set("Action", event.action).set("Actor", std::move(actor)).set("Scope", "local");
  value.set("Time", event.time_ns / 1'000'000'000).set("TimeNano", event.time_ns);
  value.set("Status", old ? event.action : "").set("ID", old ? event.actor : "");
  value.set("From", event.type == "container" && image != event.attributes.end() ? image->second : "");
  return value;
}

Result<int> events_main(Context& context, const Parsed& parsed) {
  engine::EventFilter filter;
  for (const std::string& text : parsed.values("filter")) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return errorf(ErrorKind::kInvalid, "--filter {:.80}: expected KEY=VALUE", text);
    }
    filter.filters.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  TRY(engine::check_event_filters(filter.filters));
  const auto now = engine::TimePoint::clock::now();
  if (const auto since = parsed.value("since"); !since.empty()) {
    TRY_ASSIGN(filter.since, parse_time(since, now).context("--since"));
  }
  if (const auto until = parsed.value("until"); !until.empty()) {
    TRY_ASSIGN(filter.until, parse_time(until, now).context("--until"));
  }
  const std::string format = unescape_format(parsed.value("format"));
  std::optional<Template> shape;
  if (!format.empty() && format != "json") {
    TRY_ASSIGN(shape, Template::parse(format));
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->events(filter, [&](const engine::Event& event) -> Result<void> {
    if (shape) {
      TRY_ASSIGN(const std::string line, shape->execute(template_value(event)));
      context.out.print("{}\n", line);
    } else {
      context.out.print("{}\n", format == "json" ? engine::to_json(event, true) : plain_line(event));
    }
    context.out.flush();
    if (!context.out.good()) return Error(ErrorKind::kIo, "write to standard output failed");
    return {};
  }));
  return 0;
}

}  // namespace

constinit const Command kEvents = {
    .path = "events",
    .aliases = "system events",
    .summary = "Show what happens to workloads, images, volumes and networks",
    .description =
        "Shows what happens from now on until it is interrupted; with --since or --until what is on record first. The "
        "last megabytes of events are kept, over restarts of the host too, whether or not anybody listens.\n\n"
        "Filters: container=, daemon=, event=, image=, label=KEY[=VALUE], network=, scope=local, type=, volume=. "
        "Several values of one filter are alternatives.\n\nFields of templates: .Type .Action .Actor.ID "
        ".Actor.Attributes .Scope .Time .TimeNano .Status .ID .From",
    .examples =
        "hull events --since 1h --until 0s  # what happened in the last hour\n"
        "hull events --filter type=container --filter event=die --format '{{.Actor.Attributes.name}}'\n",
    .flags = kTables,
    .section = Section::kSystem,
    .run = events_main};

}  // namespace hull::cli
