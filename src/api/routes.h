#pragma once
// The tables of routes, one for each routes_TOPIC.cc. A new topic is declared here and listed in route_tables().

#include <span>
#include <vector>

#include "api/router.h"

namespace hull::api {

std::span<const Route> system_routes();
std::span<const Route> container_routes();
std::span<const Route> stream_routes();
std::span<const Route> exec_routes();
std::span<const Route> network_routes();
std::span<const Route> dashboard_routes();
std::span<const Route> usage_routes();
std::span<const Route> absent_routes();

std::span<const Route> archive_routes();
std::span<const Route> event_routes();
std::span<const Route> image_routes();
std::span<const Route> volume_routes();

inline std::vector<std::span<const Route>> route_tables() {
  return {system_routes(),  container_routes(), stream_routes(), exec_routes(),   network_routes(), dashboard_routes(),
          archive_routes(), event_routes(),     image_routes(),  volume_routes(), usage_routes(),   absent_routes()};
}

}  // namespace hull::api
