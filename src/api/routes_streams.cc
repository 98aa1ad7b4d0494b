// What flows: attach (raw, multiplexed, websocket), logs, statistics.
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "api/documents.h"
#include "api/pump.h"
#include "api/routes.h"
#include "base/detach_keys.h"
#include "base/error_format.h"
#include "base/units.h"

namespace hull::api {
namespace {

using engine::Engine;

/// What an attach asks for: which streams, the log before them, nothing but the log.
struct AttachRequest {
  PumpRequest pump;
  bool logs = false, stream = false;
};

Result<AttachRequest> read_attach(const Request& request, const engine::Config& config) {
  AttachRequest out;
  out.logs = request.query_flag("logs");
  out.stream = request.query_flag("stream");
  out.pump.input = request.query_flag("stdin");
  out.pump.output = request.query_flag("stdout");
  out.pump.error = request.query_flag("stderr");
  out.pump.multiplexed = !config.tty;
  if (out.pump.input && config.tty) {
    const std::string_view keys = request.has_query("detachKeys") ? request.query("detachKeys") : kDefaultDetachKeys;
    TRY_ASSIGN(out.pump.detach_sequence, parse_detach_keys(keys.empty() ? kDefaultDetachKeys : keys));
  }
  return out;
}

std::string frame(const PumpRequest& how, int stream, std::string_view data) {
  if (how.websocket) return websocket_frame(2, data);
  return how.multiplexed ? output_frame(stream, data) : std::string(data);
}

/// What was written before now.
Result<void> send_logs(Engine& engine, const std::string& id, const PumpRequest& how, Stream& client) {
  engine::LogOptions options;
  options.stdout_lines = how.output;
  options.stderr_lines = how.error;
  return engine.logs(id, options, [&](int stream, engine::TimePoint, std::string_view data) {
    return client.write(frame(how, stream, data), -1);
  });
}

Result<void> attach_as(Request& request, Response& response, bool websocket) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string ref, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::WorkloadDetails details, engine->inspect(ref));
  const std::string& id = details.summary.id;
  if (details.summary.status == engine::Status::kPaused) {
    return errorf(ErrorKind::kConflict, "container {} is paused, unpause the container before attach", id);
  }
  TRY_ASSIGN(AttachRequest wanted, read_attach(request, details.config));
  wanted.pump.websocket = websocket;
  std::unique_ptr<engine::PendingAttach> pending;
  if (wanted.stream) {
    TRY_ASSIGN(pending, engine->begin_attach(id, wanted.pump.input));
  }
  std::string early;
  Stream* client = nullptr;
  if (websocket) {
    TRY_ASSIGN(client, response.accept_websocket(&early));
  } else {
    TRY_ASSIGN(client, response.hijack(!details.config.tty, &early));
  }
  if (wanted.logs) TRY(send_logs(*engine, id, wanted.pump, *client));
  if (!pending) return {};
  // Bytes of a websocket are taken apart by the pump, whenever they came.
  if (pending->fd() >= 0 && !wait_beside(*client, pending->fd(), early)) return {};
  TRY_ASSIGN(engine::Attachment streams, pending->take());
  pending.reset();
  pump(*client, streams, wanted.pump, std::move(early));
  return {};
}

Result<void> attach(Request& request, Response& response) { return attach_as(request, response, false); }
Result<void> attach_websocket(Request& request, Response& response) { return attach_as(request, response, true); }

/// Seconds since 1970 with a fraction ("1700000000.000000001"), or RFC 3339. Nothing for "" and "0".
Result<std::optional<engine::TimePoint>> moment(std::string_view name, std::string_view text) {
  if (text.empty() || text == "0") return std::optional<engine::TimePoint>();
  const size_t dot = text.find('.');
  const auto seconds = parse_int(text.substr(0, dot), 0, 9'000'000'000);
  if (seconds.ok()) {
    std::string fraction(dot == std::string_view::npos ? "0" : text.substr(dot + 1));
    fraction.resize(9, '0');
    const auto nanoseconds = parse_int(fraction, 0, 999'999'999);
    if (nanoseconds.ok()) {
      return std::optional(engine::TimePoint(std::chrono::duration_cast<engine::TimePoint::duration>(
          std::chrono::nanoseconds(*seconds * 1'000'000'000 + *nanoseconds))));
    }
  }
  const auto when = parse_rfc3339(text);
  if (!when.ok()) return errorf(ErrorKind::kInvalid, "invalid value for \"{}\": {}", name, text);
  return std::optional<engine::TimePoint>(*when);
}

Result<void> logs(Request& request, Response& response) {
  engine::LogOptions options;
  options.follow = request.query_flag("follow");
  options.timestamps = request.query_flag("timestamps");
  options.details = request.query_flag("details");
  options.stdout_lines = request.query_flag("stdout");
  options.stderr_lines = request.query_flag("stderr");
  if (!options.stdout_lines && !options.stderr_lines) {
    return errorf(ErrorKind::kInvalid, "Bad parameters: you must choose at least one stream");
  }
  TRY_ASSIGN(options.since, moment("since", request.query("since")));
  TRY_ASSIGN(options.until, moment("until", request.query("until")));
  if (const std::string_view tail = request.query("tail"); !tail.empty() && tail != "all") {
    // Docker takes what is no number for "all".
    options.tail = parse_int(tail, 0, INT64_MAX).value_or(-1);
  }
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string ref, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::WorkloadDetails details, engine->inspect(ref));
  if (details.log_path.empty()) {
    return errorf(ErrorKind::kUnsupported, "configured logging driver does not support reading");
  }
  PumpRequest how;
  how.multiplexed = !details.config.tty;
  const bool typed = request.at_least(42);
  TRY(response.start_stream(200, how.multiplexed && typed ? "application/vnd.docker.multiplexed-stream"
                                                          : "application/vnd.docker.raw-stream"));
  bool fresh[3] = {true, true, true};
  std::string gathered;
  TRY(engine->logs(details.summary.id, options, [&](int stream, engine::TimePoint when, std::string_view data) {
    std::string text;
    bool& begins = fresh[stream & 1];
    if (begins && options.timestamps) text = format_rfc3339(when) + " ";
    if (begins && options.details) text += " ";
    text.append(data);
    begins = data.ends_with('\n');
    gathered += frame(how, stream, text);
    // Followed lines go at once; what is on record goes in larger pieces.
    if (!options.follow && gathered.size() < (64 << 10)) return Result<void>();
    const Result<void> sent = response.write(gathered);
    gathered.clear();
    return sent;
  }));
  return response.write(gathered);
}

/// The interfaces of a workload that runs in a network of its own.
std::vector<engine::LinkStats> links_of(Engine& engine, std::string_view id) {
  const auto now = engine.summary(id);
  if (!now.ok() || now->pid == 0 || now->network == "host") return {};
  return engine::read_links(now->pid, now->isolation == engine::Isolation::kVm ? "eth0" : "");
}

/// One document a second, or one.
Result<void> stats(Request& request, Response& response) {
  const bool stream = request.query_flag("stream", true);
  const bool one_shot = request.query_flag("one-shot");
  if (stream && one_shot) {
    return errorf(ErrorKind::kInvalid, "cannot have stream=true and one-shot=true");
  }
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string ref, request.workload(request.param("id")));
  TRY_ASSIGN(const engine::WorkloadSummary workload, engine->summary(ref));
  const auto now = [] { return engine::TimePoint::clock::now(); };
  engine::TimePoint read = now(), read_before;
  TRY_ASSIGN(engine::ContainerStats current, engine->stats(workload.id));
  engine::ContainerStats before;
  const bool runs = workload.status == engine::Status::kRunning || workload.status == engine::Status::kPaused;
  const UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const itimerspec second = {{1, 0}, {1, 0}};
  if (!timer || ::timerfd_settime(timer.get(), 0, &second, nullptr) != 0) return errno_error("set a timer");
  const auto next = [&]() -> Result<void> {
    uint64_t ticks = 0;
    while (::read(timer.get(), &ticks, sizeof ticks) < 0 && errno == EINTR) {
    }
    before = current;
    read_before = read;
    read = now();
    TRY_ASSIGN(current, engine->stats(workload.id));
    return {};
  };
  if (!stream) {
    response.watch_client();
    // Two readings make a share of the processor.
    if (!one_shot && runs) TRY(next());
    response.json(200, stats_document(current, read, before, read_before, links_of(*engine, workload.id)));
    return {};
  }
  TRY(response.start_stream(200, "application/json"));
  for (;;) {
    TRY(response.write(stats_document(current, read, before, read_before, links_of(*engine, workload.id)) + "\n"));
    if (auto more = next(); !more.ok()) {
      // It was removed meanwhile: that is the end of the stream.
      if (more.error().kind() == ErrorKind::kNotFound) return {};
      return more;
    }
  }
}

constexpr Route kRoutes[] = {
    {.method = "POST",
     .pattern = "/containers/{id}/attach",
     .right = Right::kOperate,
     .handler = attach,
     .scoped = true},
    {.method = "GET",
     .pattern = "/containers/{id}/attach/ws",
     .right = Right::kOperate,
     .handler = attach_websocket,
     .scoped = true},
    {.method = "GET", .pattern = "/containers/{id}/logs", .right = Right::kOperate, .handler = logs, .scoped = true},
    {.method = "GET", .pattern = "/containers/{id}/stats", .right = Right::kView, .handler = stats, .scoped = true},
};

}  // namespace

std::span<const Route> stream_routes() { return kRoutes; }

}  // namespace hull::api
