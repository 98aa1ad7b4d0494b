#pragma once
// The grammars of flag values, Docker's. Each error is kInvalid and says what was wrong with which value.

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/config.h"

namespace hull::cli {

/// Looks a variable up in the caller's environment.
using Lookup = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> lookup_environment(const std::string& name);

/// -e: "NAME=VALUE", or "NAME" to pass the caller's value on (not set there: "NAME", which takes it from the image).
Result<std::string> parse_env(std::string_view text, const Lookup& lookup);
/// Lines NAME=VALUE, or NAME to pass on when set; "#" comments and empty lines are left out, leading white space is
/// removed, quotes are part of the value. UTF-8 with or without a byte order mark; at most 64 KiB a line.
Result<std::vector<std::string>> parse_env_file(std::string_view content, const Lookup& lookup);
/// The same format; a name alone has an empty value.
Result<std::vector<std::string>> parse_label_file(std::string_view content);
/// Reads a file for the two above; errors name it.
Result<std::string> read_value_file(const std::string& path);

/// "KEY=VALUE" or "KEY" (value empty); the key must not be empty.
Result<std::pair<std::string, std::string>> parse_pair(std::string_view text);

/// -v: [SOURCE:]TARGET[:OPTIONS].
Result<engine::MountRequest> parse_volume(std::string_view text);
/// --mount: comma-separated KEY=VALUE pairs, quoted as in CSV.
Result<engine::MountRequest> parse_mount(std::string_view text);
/// --tmpfs: TARGET[:OPTIONS].
Result<engine::MountRequest> parse_tmpfs(std::string_view text);
/// One record of RFC 4180.
Result<std::vector<std::string>> parse_csv(std::string_view text);

/// -p: [IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL], or published=..,target=..,protocol=...
Result<std::vector<engine::PortRequest>> parse_publish(std::string_view text);
/// --expose: PORT[-PORT][/PROTOCOL], one entry "80/tcp" a port.
Result<std::vector<std::string>> parse_expose(std::string_view text);

/// NAME=SOFT[:HARD], -1 or "unlimited" for none.
Result<engine::Ulimit> parse_ulimit(std::string_view text);
/// HOST[:CONTAINER][:PERMISSIONS].
Result<engine::DeviceMapping> parse_device(std::string_view text);
Result<void> check_device_cgroup_rule(std::string_view text);
/// PATH:RATE; `bytes`: the rate takes size suffixes.
Result<engine::Config::DeviceRate> parse_device_rate(std::string_view text, bool bytes);
/// PATH:WEIGHT, 10 to 1000.
Result<engine::Config::DeviceRate> parse_device_weight(std::string_view text);
/// "1.5" processors as 10^-9 parts.
Result<int64_t> parse_cpus(std::string_view text);
/// HOST:IP, HOST=IP, HOST:host-gateway; gives HOST:IP.
Result<std::string> parse_extra_host(std::string_view text);
Result<void> check_ip(std::string_view text, int family = 0);
Result<void> check_mac(std::string_view text);
Result<void> check_name(std::string_view name);
/// --network, plain or name=NETWORK,alias=...,ip=...; `first`: it replaces the default, later ones are added.
Result<void> apply_network(engine::Config& config, std::string_view text, bool first);
/// Normalises KEY=VALUE (and the old KEY:VALUE) and refuses what is unknown. A seccomp profile is read from its file.
Result<std::string> parse_security_option(std::string_view text);

/// A time for --since and --until: RFC 3339, a date, seconds since 1970, or a duration before now.
Result<std::chrono::system_clock::time_point> parse_time(std::string_view text,
                                                         std::chrono::system_clock::time_point now);

}  // namespace hull::cli
