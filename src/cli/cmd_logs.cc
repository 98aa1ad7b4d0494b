// logs.
#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/values.h"

namespace hull::cli {
namespace {

constexpr Flag kFlags[] = {
    {.name = "details", .help = "Show the extra details that the log driver keeps"},
    {.name = "follow", .short_name = 'f', .help = "Go on with what is written from now on"},
    {.name = "since",
     .kind = ValueKind::kText,
     .metavar = "TIME",
     .help = "Only from this time on: 2026-11-23T14:00:00Z, or 42m for 42 minutes ago"},
    {.name = "tail",
     .short_name = 'n',
     .kind = ValueKind::kText,
     .metavar = "NUMBER",
     .help = "Only this many lines from the end",
     .fallback = "all"},
    {.name = "timestamps", .short_name = 't', .help = "Show when each line was written"},
    {.name = "until", .kind = ValueKind::kText, .metavar = "TIME", .help = "Only up to this time"},
};
constexpr std::span<const Flag> kTables[] = {kFlags};

Result<engine::LogOptions> parse_options(const Parsed& parsed) {
  engine::LogOptions options;
  options.follow = parsed.on("follow");
  options.timestamps = parsed.on("timestamps");
  options.details = parsed.on("details");
  const auto now = engine::TimePoint::clock::now();
  if (const auto since = parsed.value("since"); !since.empty()) {
    TRY_ASSIGN(options.since, parse_time(since, now).context("--since"));
  }
  if (const auto until = parsed.value("until"); !until.empty()) {
    TRY_ASSIGN(options.until, parse_time(until, now).context("--until"));
  }
  const std::string_view tail = parsed.value("tail", "all");
  if (tail != "all" && !tail.starts_with('-')) {
    auto lines = parse_int(tail, 0, std::numeric_limits<int64_t>::max());
    if (!lines.ok()) return errorf(ErrorKind::kInvalid, "invalid value for \"--tail\": {:.80}", tail);
    options.tail = *lines;
  }
  return options;
}

/// Writes pieces to the stream that they came from, with the time at the start of each line.
class Printer {
 public:
  Printer(Context& context, const engine::LogOptions& options) : context_(context), options_(options) {}

  Result<void> take(int stream, engine::TimePoint when, std::string_view data) {
    const bool error = stream == 2;
    // Both may be the same terminal: what came first has to stand first.
    if (error != last_was_error_) (last_was_error_ ? context_.err : context_.out).flush();
    last_was_error_ = error;
    Output& out = error ? context_.err : context_.out;
    bool& fresh = error ? error_fresh_ : out_fresh_;
    while (!data.empty()) {
      if (fresh && options_.timestamps) out.print("{} ", format_rfc3339(when));
      const size_t end = std::min(data.find('\n'), data.size() - 1) + 1;
      out.write(data.substr(0, end));
      fresh = data[end - 1] == '\n';
      data.remove_prefix(end);
    }
    if (options_.follow || error) out.flush();
    if (!out.good()) return errorf(ErrorKind::kIo, "write to standard {} failed", error ? "error" : "output");
    return {};
  }

 private:
  Context& context_;
  const engine::LogOptions& options_;
  bool out_fresh_ = true, error_fresh_ = true, last_was_error_ = false;
};

Result<int> logs_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const engine::LogOptions options, parse_options(parsed));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  Printer printer(context, options);
  TRY(engine->logs(parsed.arguments[0], options, [&](int stream, engine::TimePoint when, std::string_view data) {
    return printer.take(stream, when, data);
  }));
  return 0;
}

}  // namespace

constinit const Command kLogs = {
    .path = "logs",
    .aliases = "container logs",
    .arguments = "WORKLOAD",
    .summary = "Show the output of a workload",
    .description =
        "What the program wrote to standard output goes to standard output, and likewise for standard error.",
    .examples = "hull logs --tail 20 -f web\nhull logs --since 10m -t db 2>errors\n",
    .flags = kTables,
    .least = 1,
    .most = 1,
    .complete = Complete::kWorkload,
    .section = Section::kCommon,
    .run = logs_main};

}  // namespace hull::cli
