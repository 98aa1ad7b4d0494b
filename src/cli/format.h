#pragma once
// Times, ids and ports as Docker's tables show them.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace hull::cli {

/// "3 minutes ago".
std::string ago(engine::TimePoint when);
/// Go's time.String in local time: "2026-11-23 14:13:59 +0000 UTC".
std::string format_local(engine::TimePoint when);
/// Twelve digits, without "sha256:".
std::string short_id(std::string_view id);
/// "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp"; neighbouring ports as a range.
std::string format_ports(const std::vector<engine::PublishedPort>& ports);

}  // namespace hull::cli
