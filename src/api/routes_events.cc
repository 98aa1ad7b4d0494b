// What happens, as a stream.
#include "api/routes.h"
#include "api/versions.h"
#include "base/error_format.h"
#include "base/units.h"

namespace hull::api {
namespace {

using TimePoint = std::chrono::system_clock::time_point;

/// Seconds since 1970 with up to nine decimals, or RFC 3339.
Result<std::optional<TimePoint>> moment(const Request& request, std::string_view name) {
  const std::string_view text = request.query(name);
  if (text.empty()) return std::optional<TimePoint>();
  const size_t point = text.find('.');
  const auto seconds = parse_int(text.substr(0, point), 0, 9'000'000'000);
  if (!seconds.ok()) {
    auto when = parse_rfc3339(text);
    if (!when.ok()) return errorf(ErrorKind::kInvalid, "invalid value for {}: \"{:.80}\"", name, text);
    return std::optional<TimePoint>(*when);
  }
  std::string decimals(point == std::string_view::npos ? "" : text.substr(point + 1));
  if (decimals.size() > 9) return errorf(ErrorKind::kInvalid, "invalid value for {}: \"{:.80}\"", name, text);
  decimals.resize(9, '0');
  const auto ns = parse_int(decimals, 0, 999'999'999);
  if (!ns.ok()) return errorf(ErrorKind::kInvalid, "invalid value for {}: \"{:.80}\"", name, text);
  return std::optional<TimePoint>(TimePoint(
      std::chrono::duration_cast<TimePoint::duration>(std::chrono::seconds(*seconds) + std::chrono::nanoseconds(*ns))));
}

Result<void> events(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  engine::EventFilter filter;
  TRY_ASSIGN(filter.since, moment(request, "since"));
  TRY_ASSIGN(filter.until, moment(request, "until"));
  TRY_ASSIGN(filter.filters, request.filters({"config", "container", "daemon", "event", "image", "label", "network",
                                              "node", "plugin", "scope", "secret", "service", "type", "volume"}));
  if (filter.since && filter.until && *filter.since > *filter.until) {
    return errorf(ErrorKind::kInvalid, "`since` time (...) cannot be after `until` time (...)");
  }
  const EventForm form = event_form(request.header("accept"), request.version());
  const std::string begin = form.sequence ? "\x1e" : "";
  const bool legacy = !request.at_least(52);
  TRY(response.start_stream(200, form.content_type));
  return engine->events(filter, [&](const engine::Event& event) -> Result<void> {
    // Clients before 1.46 know no such event.
    if (event.type == "image" && event.action == "create" && !request.at_least(46)) return {};
    if (request.who().scoped() && (event.type != "container" || !request.who().sees(event.attributes))) return {};
    return response.write(begin + engine::to_json(event, legacy) + "\n");
  });
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/events", .right = Right::kView, .handler = events, .scoped = true},
};

}  // namespace

std::span<const Route> event_routes() { return kRoutes; }

}  // namespace hull::api
