#include "cli/values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "net/ports.h"

namespace hull::cli {
namespace {

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool is_device_mode(std::string_view text) {
  if (text.empty() || text.size() > 3) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::string_view("rwm").find(text[i]) == std::string_view::npos) return false;
    if (text.find(text[i], i + 1) != std::string_view::npos) return false;
  }
  return true;
}

/// "published=8080,target=80,protocol=udp" as "8080:80/udp".
Result<std::string> short_publish(std::string_view text) {
  std::string published, target, protocol = "tcp";
  for (const std::string_view pair : split(text, ',')) {
    const size_t equals = pair.find('=');
    const std::string_view key = pair.substr(0, equals);
    if (equals == std::string_view::npos || key.empty()) {
      return errorf(ErrorKind::kInvalid, "invalid publish opts format (should be name=value but got '{:.80}')", pair);
    }
    const std::string value(pair.substr(equals + 1));
    if (key == "published") {
      published = value;
    } else if (key == "target") {
      target = value;
    } else if (key == "protocol") {
      protocol = value;
    } else if (key != "mode" || value != "host") {
      return errorf(ErrorKind::kInvalid, "--publish: unknown field '{:.80}' (published, target, protocol)", pair);
    }
  }
  if (target.empty()) return errorf(ErrorKind::kInvalid, "--publish: '{:.80}' names no target port", text);
  return fmt::format("{}:{}/{}", published, target, protocol);
}

}  // namespace

Result<std::vector<engine::PortRequest>> parse_publish(std::string_view text) {
  std::string spec(text);
  if (text.find('=') != std::string_view::npos) {
    TRY_ASSIGN(spec, short_publish(text));
  }
  TRY_ASSIGN(const auto mappings, net::parse_port_spec(spec));
  std::vector<engine::PortRequest> ports;
  for (const net::PortMapping& mapping : mappings) {
    engine::PortRequest port;
    if (mapping.host_ip) port.host_ip = mapping.host_ip->str();
    port.host_port = mapping.host_port;
    port.host_port_last = mapping.host_port_last;
    port.container_port = mapping.container_port;
    port.protocol = net::to_string(mapping.protocol);
    ports.push_back(std::move(port));
  }
  return ports;
}

Result<std::vector<std::string>> parse_expose(std::string_view text) {
  auto mappings = net::parse_expose_spec(text);
  if (!mappings.ok()) return std::move(mappings).error().context("invalid range format for --expose");
  std::vector<std::string> ports;
  for (const net::PortMapping& mapping : *mappings) {
    ports.push_back(fmt::format("{}/{}", mapping.container_port, net::to_string(mapping.protocol)));
  }
  return ports;
}

Result<engine::Ulimit> parse_ulimit(std::string_view text) {
  constexpr std::string_view kNames[] = {"core",    "cpu",      "data",   "fsize",      "locks",
                                         "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                         "rss",     "rtprio",   "rttime", "sigpending", "stack"};
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return errorf(ErrorKind::kInvalid, "invalid ulimit argument: {:.80} (expected NAME=SOFT[:HARD])", text);
  }
  engine::Ulimit limit;
  limit.name = text.substr(0, equals);
  if (std::find(std::begin(kNames), std::end(kNames), limit.name) == std::end(kNames)) {
    return errorf(ErrorKind::kInvalid, "invalid ulimit type: {:.80} (known: {})", limit.name, fmt::join(kNames, ", "));
  }
  const auto number = [&](std::string_view part) -> Result<int64_t> {
    if (part == "unlimited") return int64_t{-1};
    auto value = parse_int(part, -1, std::numeric_limits<int64_t>::max());
    if (!value.ok())
      return errorf(ErrorKind::kInvalid, "invalid ulimit value in {:.80}: {}", text, value.error().message());
    return *value;
  };
  const auto parts = split(text.substr(equals + 1), ':');
  if (parts.size() > 2) return errorf(ErrorKind::kInvalid, "too many limit value arguments: {:.80}", text);
  TRY_ASSIGN(limit.soft, number(parts[0]));
  limit.hard = limit.soft;
  if (parts.size() == 2) {
    TRY_ASSIGN(limit.hard, number(parts[1]));
  }
  const bool too_high = limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard);
  if (too_high) {
    return errorf(ErrorKind::kInvalid, "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                  limit.soft == -1 ? std::string("unlimited") : std::to_string(limit.soft), limit.hard);
  }
  return limit;
}

Result<engine::DeviceMapping> parse_device(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return errorf(ErrorKind::kInvalid, "invalid device specification: {:.200}: {}", text, why);
  };
  const size_t slash = text.find('/');
  if (!text.starts_with('/') && slash != std::string_view::npos && text.find('=') != std::string_view::npos) {
    return errorf(ErrorKind::kUnsupported, "--device {:.200}: CDI devices are not in this version of Hull", text);
  }
  const auto parts = split(text, ':');
  if (parts.size() > 3) return bad("too many colons");
  engine::DeviceMapping device;
  device.host_path = parts[0];
  device.container_path = parts[0];
  if (parts.size() == 2 && is_device_mode(parts[1])) {
    device.permissions = parts[1];
  } else if (parts.size() >= 2) {
    device.container_path = parts[1];
  }
  if (parts.size() == 3) {
    if (!is_device_mode(parts[2])) return bad("permissions are made of r, w and m, each once");
    device.permissions = parts[2];
  }
  if (!device.host_path.starts_with('/')) return bad("the device must be an absolute path");
  if (!device.container_path.starts_with('/')) return bad("the path in the container must be absolute");
  return device;
}

Result<void> check_device_cgroup_rule(std::string_view text) {
  const auto bad = [&] {
    return errorf(ErrorKind::kInvalid, "invalid device cgroup format '{:.80}' (expected 'c 1:3 rwm')", text);
  };
  const auto parts = split(text, ' ');
  if (parts.size() != 3 || (parts[0] != "a" && parts[0] != "b" && parts[0] != "c")) return bad();
  const auto numbers = split(parts[1], ':');
  if (numbers.size() != 2) return bad();
  for (const std::string_view number : numbers) {
    if (number != "*" && !parse_int(number, 0, std::numeric_limits<uint32_t>::max()).ok()) return bad();
  }
  if (!is_device_mode(parts[2])) return bad();
  return {};
}

Result<engine::Config::DeviceRate> parse_device_rate(std::string_view text, bool bytes) {
  const size_t colon = text.rfind(':');
  const std::string_view rate = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  const auto value = bytes ? parse_size(rate) : parse_int(rate, 0, std::numeric_limits<int64_t>::max());
  if (colon == std::string_view::npos || !text.starts_with("/dev/") || !value.ok()) {
    return errorf(ErrorKind::kInvalid, "invalid rate for device: {:.200}: the format is /dev/PATH:{}", text,
                  bytes ? "NUMBER[k|m|g] (bytes a second)" : "NUMBER (operations a second)");
  }
  return engine::Config::DeviceRate{std::string(text.substr(0, colon)), static_cast<uint64_t>(*value)};
}

Result<engine::Config::DeviceRate> parse_device_weight(std::string_view text) {
  const size_t colon = text.rfind(':');
  const auto weight = parse_int(colon == std::string_view::npos ? "" : text.substr(colon + 1), 0, 1000);
  if (colon == std::string_view::npos || !text.starts_with("/dev/") || !weight.ok() || (*weight > 0 && *weight < 10)) {
    return errorf(ErrorKind::kInvalid, "invalid weight for device: {:.200}: the format is /dev/PATH:WEIGHT, 10 to 1000",
                  text);
  }
  return engine::Config::DeviceRate{std::string(text.substr(0, colon)), static_cast<uint64_t>(*weight)};
}

Result<int64_t> parse_cpus(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return errorf(ErrorKind::kInvalid, "invalid number of CPUs \"{:.80}\": {}", text, why);
  };
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  std::string fraction(dot == std::string_view::npos ? "" : text.substr(dot + 1));
  if (fraction.size() > 9) return bad("value is too precise");
  if (whole.empty() && fraction.empty()) return bad("expected a number such as 1.5");
  fraction.resize(9, '0');
  const auto units = whole.empty() ? Result<int64_t>(int64_t{0}) : parse_int(whole, 0, 1'000'000);
  const auto parts = parse_int(fraction, 0, 999'999'999);
  if (!units.ok() || !parts.ok()) return bad("expected a number such as 1.5");
  return *units * 1'000'000'000 + *parts;
}

Result<std::string> parse_extra_host(std::string_view text) {
  size_t at = text.find('=');
  if (at == std::string_view::npos) at = text.find(':');
  if (at == std::string_view::npos || at == 0) {
    return errorf(ErrorKind::kInvalid, "bad format for add-host: \"{:.200}\" (expected HOST:IP)", text);
  }
  std::string_view ip = text.substr(at + 1);
  if (ip.starts_with('[') && ip.ends_with(']')) ip = ip.substr(1, ip.size() - 2);
  if (ip != "host-gateway") {
    if (auto checked = check_ip(ip); !checked.ok()) {
      return errorf(ErrorKind::kInvalid, "invalid IP address in add-host: \"{:.200}\"", ip);
    }
  }
  return fmt::format("{}:{}", text.substr(0, at), ip);
}

Result<void> check_ip(std::string_view text, int family) {
  const std::string copy(text);
  std::array<unsigned char, sizeof(in6_addr)> address{};
  const bool v4 = family != AF_INET6 && ::inet_pton(AF_INET, copy.c_str(), address.data()) == 1;
  const bool v6 = family != AF_INET && ::inet_pton(AF_INET6, copy.c_str(), address.data()) == 1;
  if (v4 || v6) return {};
  return errorf(ErrorKind::kInvalid, "\"{:.80}\" is not an {} address", text,
                family == AF_INET    ? "IPv4"
                : family == AF_INET6 ? "IPv6"
                                     : "IP");
}

Result<void> check_mac(std::string_view text) {
  const char separator = text.find('-') != std::string_view::npos ? '-' : ':';
  const auto parts = split(text, separator);
  const bool good =
      parts.size() == 6 && std::all_of(parts.begin(), parts.end(), [](std::string_view part) {
        return part.size() == 2 && part.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
      });
  if (good) return {};
  return errorf(ErrorKind::kInvalid, "{:.80} is not a valid mac address", text);
}

Result<void> check_name(std::string_view name) {
  const bool good = name.size() >= 2 && name.size() <= 255 && is_alphanumeric(name[0]) &&
                    std::all_of(name.begin(), name.end(),
                                [](char c) { return is_alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
  if (good) return {};
  return errorf(ErrorKind::kInvalid, "invalid container name ({:.200}), only [a-zA-Z0-9][a-zA-Z0-9_.-]+ is allowed",
                name);
}

namespace {

Result<void> apply_network_field(engine::NetworkAttachment& one, std::string_view key, const std::string& value) {
  if (key == "name") {
    if (trim(value).empty()) return errorf(ErrorKind::kInvalid, "no name set for network");
    one.network = value == "default" ? "bridge" : value;
  } else if (key == "alias") {
    one.aliases.push_back(value);
  } else if (key == "ip") {
    TRY(check_ip(value, AF_INET));
    one.ipv4 = value;
  } else if (key == "ip6") {
    TRY(check_ip(value, AF_INET6));
    one.ipv6 = value;
  } else if (key == "mac-address") {
    TRY(check_mac(value));
    one.mac_address = value;
  } else if (key == "driver-opt") {
    TRY_ASSIGN(auto option, parse_pair(value));
    one.driver_options.insert_or_assign(std::move(option.first), std::move(option.second));
  } else if (key == "gw-priority") {
    const auto number = parse_int(value, INT32_MIN, INT32_MAX);
    if (!number.ok()) return errorf(ErrorKind::kInvalid, "invalid gw-priority ({:.80}): a number is meant", value);
    one.gateway_priority = static_cast<int>(*number);
  } else if (key == "link-local-ip") {
    return errorf(ErrorKind::kUnsupported,
                  "--network: '{}' is not there: the link-local address follows from the MAC address", key);
  } else {
    return errorf(ErrorKind::kInvalid, "invalid field key {:.80} in --network", key);
  }
  return {};
}

}  // namespace

Result<void> apply_network(engine::Config& config, std::string_view text, bool first) {
  engine::NetworkAttachment one;
  const bool plain = text.find('=') == std::string_view::npos;
  if (plain) {
    TRY(apply_network_field(one, "name", std::string(text)));
  } else {
    TRY_ASSIGN(const auto fields, parse_csv(text));
    for (const std::string& field : fields) {
      TRY_ASSIGN(const auto pair, parse_pair(field));
      TRY(apply_network_field(one, lower(pair.first), pair.second));
    }
    if (one.network.empty()) return errorf(ErrorKind::kInvalid, "no name set for network");
  }
  if (first) {
    config.network = one.network;
    if (!plain) config.networks.push_back(std::move(one));
    return {};
  }
  if (config.networks.empty()) config.networks.emplace_back().network = config.network;
  for (const engine::NetworkAttachment& other : config.networks) {
    if (other.network == one.network) {
      return errorf(ErrorKind::kInvalid, "network \"{:.80}\" is specified multiple times", one.network);
    }
    for (const std::string_view mode : {std::string_view(one.network), std::string_view(other.network)}) {
      if (engine::has_own_networks(mode)) continue;
      return errorf(ErrorKind::kInvalid,
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({:.80})",
                    mode);
    }
  }
  config.networks.push_back(std::move(one));
  return {};
}

Result<std::string> parse_security_option(std::string_view text) {
  size_t at = text.find('=');
  if (at == std::string_view::npos) at = text.find(':');
  const std::string_view key = text.substr(0, at);
  const std::string_view value = at == std::string_view::npos ? "" : text.substr(at + 1);
  constexpr std::string_view kKeys[] = {"seccomp", "apparmor", "label", "no-new-privileges", "systempaths"};
  if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
    return errorf(ErrorKind::kInvalid, "invalid --security-opt: \"{:.200}\" (known: {})", text, fmt::join(kKeys, ", "));
  }
  if (key == "no-new-privileges") {
    if (at == std::string_view::npos) return std::string("no-new-privileges=true");
    const auto on = parse_bool(value);
    if (!on) return errorf(ErrorKind::kInvalid, "invalid --security-opt: \"{:.200}\" (true or false)", text);
    return fmt::format("no-new-privileges={}", *on);
  }
  if (value.empty()) return errorf(ErrorKind::kInvalid, "invalid --security-opt: \"{:.200}\": no value", text);
  if (key == "systempaths" && value != "unconfined") {
    return errorf(ErrorKind::kInvalid, "invalid --security-opt: \"{:.200}\" (systempaths=unconfined)", text);
  }
  if (key == "seccomp" && value != "unconfined" && value != "builtin") {
    // The profile itself goes into the request, as with Docker: the file may be gone at the next start.
    auto profile = read_value_file(std::string(value));
    if (!profile.ok()) {
      return errorf(ErrorKind::kInvalid, "opening seccomp profile ({:.200}) failed: {}", value,
                    profile.error().message());
    }
    return "seccomp=" + *profile;
  }
  return fmt::format("{}={}", key, value);
}

Result<std::chrono::system_clock::time_point> parse_time(std::string_view text,
                                                         std::chrono::system_clock::time_point now) {
  using std::chrono::system_clock;
  constexpr int64_t kFarthest = 7'000'000'000;  // seconds before and after 1970
  if (auto exact = parse_rfc3339(text); exact.ok()) return exact;
  // A date, or date and time without a zone: local time, as Docker reads it.
  for (const char* form : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"}) {
    tm parts{};
    parts.tm_mday = 1;
    const std::string copy(text);
    const char* end = ::strptime(copy.c_str(), form, &parts);
    if (end == nullptr || *end != '\0') continue;
    parts.tm_isdst = -1;
    const time_t clock = ::mktime(&parts);
    if (clock < -kFarthest || clock > kFarthest) break;
    return system_clock::from_time_t(clock);
  }
  double seconds = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (error == std::errc() && rest == text.data() + text.size() && seconds >= 0 && seconds < kFarthest) {
    return system_clock::time_point(std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9)));
  }
  if (auto before = parse_duration(text); before.ok()) {
    const auto length = std::chrono::duration_cast<std::chrono::seconds>(*before).count();
    // Some 220 years, so that the difference stays within what nanoseconds since 1970 can tell.
    if (length > -kFarthest && length < kFarthest) return now - *before;
  }
  return errorf(ErrorKind::kInvalid,
                "time \"{:.80}\": expected 2026-11-23T14:00:00Z, 2026-11-23, seconds since 1970, or "
                "a duration before now such as 42m",
                text);
}

}  // namespace hull::cli
