// logs, events.
#include <algorithm>

#include "base/units.h"
#include "cli/text.h"
#include "cli/values.h"
#include "compose/chosen.h"
#include "compose/commands.h"
#include "compose/follow.h"

namespace hull::compose {
namespace {

Result<FollowOptions> options_of(App& app, const cli::Parsed& flags) {
  FollowOptions options;
  options.log.follow = flags.on("follow");
  options.log.timestamps = flags.on("timestamps");
  options.prefix = !flags.on("no-log-prefix");
  options.colours = !flags.on("no-color") && app.colours(app.context().out);
  const std::string_view tail = flags.value("tail", "all");
  if (tail != "all") {
    const auto lines = parse_int(tail, -1, 1'000'000'000);
    if (!lines.ok()) return errorf(ErrorKind::kInvalid, "--tail {:.40}: expected a number or all", tail);
    options.log.tail = *lines;
  }
  const auto now = std::chrono::system_clock::now();
  if (flags.has("since")) {
    TRY_ASSIGN(options.log.since, cli::parse_time(flags.value("since"), now));
  }
  if (flags.has("until")) {
    TRY_ASSIGN(options.log.until, cli::parse_time(flags.value("until"), now));
  }
  return options;
}

std::string attribute(const engine::Event& event, std::string_view key) {
  const auto found = event.attributes.find(std::string(key));
  return found == event.attributes.end() ? std::string() : found->second;
}

}  // namespace

Result<int> run_logs(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const FollowOptions options, options_of(app, flags));
  TRY_ASSIGN(Chosen chosen, choose(app, flags.arguments));
  if (const auto index = flags.number("index")) {
    std::erase_if(chosen.containers, [&](const Container& one) { return one.number != *index; });
  }
  const Prefixes prefixes(chosen.containers, chosen.project, options);
  if (!options.log.follow) {
    TRY_ASSIGN(const auto engine, App::open_engine());
    for (const Container& one : chosen.containers) TRY(print_log(*engine, one, prefixes.of(one), options.log));
    return 0;
  }
  Followers followers;
  for (const Container& one : chosen.containers) TRY(followers.add(one, prefixes.of(one), options.log, true, false));
  while (followers.next(-1)) {
  }
  return 0;
}

Result<int> run_events(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const std::string project, app.project_name());
  engine::EventFilter filter;
  filter.filters = {{"type", "container"}, {"label", fmt::format("{}={}", kLabelProject, project)}};
  const auto now = std::chrono::system_clock::now();
  if (flags.has("since")) {
    TRY_ASSIGN(filter.since, cli::parse_time(flags.value("since"), now));
  }
  if (flags.has("until")) {
    TRY_ASSIGN(filter.until, cli::parse_time(flags.value("until"), now));
  }
  TRY_ASSIGN(const auto engine, App::open_engine());
  const auto show = [&](const engine::Event& event) -> Result<void> {
    const std::string service = attribute(event, kLabelService);
    const auto& wanted = flags.arguments;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), service) == wanted.end()) return {};
    if (flags.on("json")) {
      app.context().out.print("{}\n", engine::to_json(event, false));
    } else {
      const engine::TimePoint when{
          std::chrono::duration_cast<engine::TimePoint::duration>(std::chrono::nanoseconds(event.time_ns))};
      app.context().out.print("{} container {} {} ({}, service={})\n", format_rfc3339(when), event.action, event.actor,
                              attribute(event, "name"), service);
    }
    app.context().out.flush();
    if (!app.context().out.good()) return errorf(ErrorKind::kIo, "write to standard output failed");
    return {};
  };
  TRY(engine->events(filter, show));
  return 0;
}

}  // namespace hull::compose
