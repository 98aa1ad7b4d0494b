// What the options of a network mean.
#include <array>

#include "base/error_format.h"
#include "base/units.h"
#include "net/definitions.h"

namespace hull::net {
namespace {

Error bad_value(std::string_view key, std::string_view value, std::string_view expected) {
  return errorf(ErrorKind::kInvalid, "network option {}: \"{:.80}\" is not {}", key, value, expected);
}

/// The words that Docker takes for a truth value.
Result<bool> truth(std::string_view key, std::string_view value) {
  for (const std::string_view word : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (value == word) return true;
  }
  for (const std::string_view word : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (value == word) return false;
  }
  return bad_value(key, value, "true or false");
}

Result<void> choose(std::string_view key, std::string_view value, std::initializer_list<std::string_view> words,
                    std::string* out) {
  std::string all;
  for (const std::string_view word : words) {
    if (value == word) {
      *out = value;
      return {};
    }
    all += (all.empty() ? "" : ", ") + std::string(word);
  }
  return bad_value(key, value, "one of " + all);
}

Result<bool> bridge_option(Network& n, std::string_view key, const std::string& value) {
  if (key == "com.docker.network.bridge.name") {
    n.bridge_device = value;
  } else if (key == "com.docker.network.bridge.enable_icc") {
    TRY_ASSIGN(n.between, truth(key, value));
  } else if (key == "com.docker.network.bridge.enable_ip_masquerade") {
    TRY_ASSIGN(n.masquerade, truth(key, value));
  } else if (key == "com.docker.network.bridge.host_binding_ipv4") {
    TRY_ASSIGN(n.publish_on, IpAddress::parse(value));
    if (!n.publish_on->is_v4()) return bad_value(key, value, "an IPv4 address");
    if (n.publish_on->is_unspecified()) n.publish_on.reset();
  } else if (key == "com.docker.network.bridge.gateway_mode_ipv4" ||
             key == "com.docker.network.bridge.gateway_mode_ipv6") {
    if (value != "nat") {
      return errorf(ErrorKind::kUnsupported,
                    "network option {}={:.80}: published ports are translated, so there is nat", key, value);
    }
  } else if (key == "com.docker.network.bridge.default_bridge") {
    TRY_ASSIGN(const bool wanted, truth(key, value));
    if (wanted) return bad_value(key, value, "possible: there is a default bridge");
  } else {
    return false;
  }
  return true;
}

Result<bool> option_of(Network& n, std::string_view key, const std::string& value) {
  if (key == "com.docker.network.driver.mtu") {
    // 0 is how some tools say "the usual one".
    const auto number = parse_int(value, 0, 65535);
    if (!number.ok() || (*number != 0 && *number < 68)) return bad_value(key, value, "a number from 68 to 65535");
    n.mtu_given = *number != 0;
    if (n.mtu_given) n.mtu = static_cast<unsigned>(*number);
    return true;
  }
  if (key == "com.docker.network.container_iface_prefix") {
    if (value.empty() || value.size() > 10) return bad_value(key, value, "1 to 10 characters");
    n.interface_prefix = value;
    return true;
  }
  if (n.driver == Driver::kBridge) return bridge_option(n, key, value);
  if (key == "parent") {
    n.parent = value;
    return true;
  }
  if (n.driver == Driver::kMacvlan && key == "macvlan_mode") {
    TRY(choose(key, value, {"bridge", "private", "vepa", "passthru"}, &n.mode));
    return true;
  }
  if (n.driver == Driver::kIpvlan && key == "ipvlan_mode") {
    TRY(choose(key, value, {"l2", "l3", "l3s"}, &n.mode));
    return true;
  }
  if (n.driver == Driver::kIpvlan && key == "ipvlan_flag") {
    TRY(choose(key, value, {"bridge", "private", "vepa"}, &n.flag));
    return true;
  }
  return false;
}

}  // namespace

Result<void> apply_options(Network& n) {
  if (n.driver == Driver::kMacvlan) n.mode = "bridge";
  if (n.driver == Driver::kIpvlan) {
    n.mode = "l2";
    n.flag = "bridge";
  }
  const std::string parent = n.parent;
  for (const auto& [key, value] : n.options) {
    TRY_ASSIGN(const bool known, option_of(n, key, value));
    if (!known) {
      return errorf(ErrorKind::kInvalid, "network option {:.80}: the driver {} has no such option", key,
                    to_string(n.driver));
    }
  }
  if (!parent.empty()) n.parent = parent;  // the one that was made, where none was named
  return {};
}

}  // namespace hull::net
