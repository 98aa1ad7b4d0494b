#include "cli/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <tuple>

#include "base/units.h"

namespace hull::cli {

std::string ago(engine::TimePoint when) {
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(engine::TimePoint::clock::now() - when);
  return format_age(std::max(age, std::chrono::seconds(0))) + " ago";
}

std::string format_local(engine::TimePoint when) {
  const time_t clock = engine::TimePoint::clock::to_time_t(when);
  tm parts{};
  ::localtime_r(&clock, &parts);
  char text[64];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z %Z", &parts);
  return {text, length};
}

std::string short_id(std::string_view id) {
  if (const size_t colon = id.find(':'); colon != std::string_view::npos) id.remove_prefix(colon + 1);
  return std::string(id.substr(0, 12));
}

std::string format_ports(const std::vector<engine::PublishedPort>& ports) {
  auto sorted = ports;
  const auto key = [](const engine::PublishedPort& p) {
    return std::tie(p.protocol, p.host_ip, p.container_port, p.host_port);
  };
  std::sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  std::string out;
  for (size_t i = 0; i < sorted.size();) {
    const engine::PublishedPort& first = sorted[i];
    size_t last = i;
    // A run of neighbours is one range, as long as host and container ports go together.
    while (last + 1 < sorted.size()) {
      const engine::PublishedPort& next = sorted[last + 1];
      const int step = static_cast<int>(last + 1 - i);
      const bool together = first.host_port == 0 ? next.host_port == 0 : next.host_port == first.host_port + step;
      if (next.protocol != first.protocol || next.host_ip != first.host_ip ||
          next.container_port != first.container_port + step || !together) {
        break;
      }
      ++last;
    }
    const auto range = [&](uint16_t from, uint16_t to) {
      return from == to ? std::to_string(from) : fmt::format("{}-{}", from, to);
    };
    if (!out.empty()) out += ", ";
    if (first.host_port != 0) {
      const bool v6 = first.host_ip.find(':') != std::string::npos;
      out += v6 ? fmt::format("[{}]", first.host_ip) : first.host_ip;
      out += fmt::format(":{}->", range(first.host_port, sorted[last].host_port));
    }
    out += fmt::format("{}/{}", range(first.container_port, sorted[last].container_port), first.protocol);
    i = last + 1;
  }
  return out;
}

}  // namespace hull::cli
