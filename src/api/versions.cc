#include "api/versions.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error_format.h"
#include "base/json_writer.h"

namespace hull::api {
namespace {

constexpr std::string_view kJsonLines = "application/jsonl";
constexpr std::string_view kNdJson = "application/x-ndjson";
constexpr std::string_view kJsonSequence = "application/json-seq";

Json of_type(Json::Type type) {
  Json out;
  out.type = type;
  return out;
}

/// Removes what is from `from` up to `to`, which are found in this order from `at` on.
void cut(std::string* text, size_t at, std::string_view from, std::string_view to) {
  const size_t begin = text->find(from, at);
  const size_t end = text->find(to, begin);
  if (begin != std::string::npos && end != std::string::npos) text->erase(begin, end - begin);
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

/// Whether ";q=0" takes a type back (RFC 9110, 12.4.2).
bool refused(std::string_view parameters) {
  for (size_t at = parameters.find(';'); at != std::string_view::npos; at = parameters.find(';', at + 1)) {
    const std::string_view one = trimmed(parameters.substr(at + 1, parameters.find(';', at + 1) - at - 1));
    if (one.starts_with("q=0") && one.find_first_not_of("0.", 2) == std::string_view::npos) return true;
  }
  return false;
}

uint64_t free_addresses(const net::Subnet& range, const std::set<net::IpAddress>& taken) {
  const unsigned bits = (range.base().is_v4() ? 32U : 128U) - range.prefix_length();
  const auto used = static_cast<uint64_t>(
      std::count_if(taken.begin(), taken.end(), [&](const net::IpAddress& one) { return range.contains(one); }));
  if (bits > 64) return UINT64_MAX;
  if (bits == 64) return used == 0 ? UINT64_MAX : uint64_t{0} - used;
  return (uint64_t{1} << bits) - std::min(used, uint64_t{1} << bits);
}

void write_subnet(JsonWriter& w, const engine::Engine::NetworkInfo& info, const net::Subnet& subnet,
                  const std::optional<net::Subnet>& range, const std::optional<net::IpAddress>& gateway) {
  std::set<net::IpAddress> taken = {subnet.base()};
  // IPv4 keeps the last address for broadcasts; IPv6 has none.
  if (subnet.base().is_v4()) taken.insert(subnet.last());
  const auto add = [&](const net::IpAddress& address) {
    if (subnet.contains(address)) taken.insert(address);
  };
  if (gateway && !gateway->is_unspecified()) add(*gateway);
  for (const auto& [name, address] : info.network.taken) add(address);
  for (const auto& member : info.members) {
    add(member.endpoint.ipv4);
    if (member.endpoint.ipv6) add(*member.endpoint.ipv6);
  }
  w.object(subnet.str(), [&] {
    w.member("IPsInUse", taken.size());
    w.member("DynamicIPsAvailable", free_addresses(range.value_or(subnet), taken));
  });
}

}  // namespace

std::string without_old_addresses(std::string inspect) {
  // Values of labels and variables are texts: none of them can look like the beginning of this object.
  const size_t at = inspect.find("\"NetworkSettings\":{");
  if (at == std::string::npos) return inspect;
  cut(&inspect, at, "\"Bridge\":", "\"SandboxID\":");
  // The ports before it are numbers and addresses.
  cut(&inspect, at, "\"HairpinMode\":", "\"Networks\":{");
  return inspect;
}

std::string image_config(const Json* config, Version version) {
  static constexpr std::array kLists = {"Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"};
  static constexpr std::array kTexts = {"User", "WorkingDir"};
  static constexpr std::array kTextsOfContainers = {"Domainname", "Hostname", "Image"};
  static constexpr std::array kFlagsOfContainers = {"AttachStderr", "AttachStdin", "AttachStdout",
                                                    "OpenStdin",    "StdinOnce",   "Tty"};
  Json out = config != nullptr && config->is(Json::Type::kObject) ? *config : of_type(Json::Type::kObject);
  const auto in = [](const auto& list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  if (version >= Version{1, 52}) {
    std::erase_if(out.members, [&](const auto& member) {
      return (in(kLists, member.first) || in(kTexts, member.first)) && member.second.is_default();
    });
    return to_text(out);
  }
  const auto fill = [&](const auto& names, Json::Type type) {
    for (const char* const name : names) {
      const bool there =
          std::any_of(out.members.begin(), out.members.end(), [&](const auto& member) { return member.first == name; });
      if (!there) out.members.emplace_back(name, of_type(type));
    }
  };
  fill(kLists, Json::Type::kNull);
  fill(kTexts, Json::Type::kText);
  if (version < Version{1, 50}) {
    fill(kTextsOfContainers, Json::Type::kText);
    fill(kFlagsOfContainers, Json::Type::kBool);
  }
  return to_text(out);
}

EventForm event_form(std::string_view accept, Version version) {
  while (!accept.empty()) {
    const size_t end = std::min(accept.find(','), accept.size());
    const std::string_view range = accept.substr(0, end);
    accept.remove_prefix(std::min(end + 1, accept.size()));
    const std::string_view type = trimmed(range.substr(0, range.find(';')));
    if (refused(range)) continue;
    if (type == kJsonSequence) return {kJsonSequence, true};
    if (type == kNdJson) return {kNdJson, false};
    if (type == kJsonLines) return {kJsonLines, false};
  }
  if (version < Version{1, 52}) return {"application/json", false};
  return {version < Version{1, 53} ? kNdJson : kJsonLines, false};
}

std::string network_status(const engine::Engine::NetworkInfo& info) {
  const net::Network& network = info.network;
  JsonWriter w;
  w.object([&] {
    w.object("IPAM", [&] {
      w.object("Subnets", [&] {
        // Without subnets there is nothing to give out: host and none.
        if (network.driver == net::Driver::kHost || network.driver == net::Driver::kNull) return;
        write_subnet(w, info, network.subnet4, network.range4, network.gateway4);
        if (network.subnet6) write_subnet(w, info, *network.subnet6, network.range6, network.gateway6);
      });
    });
  });
  return std::move(w).take();
}

Result<std::vector<std::string>> usage_types(const Request& request) {
  std::vector<std::string> all = {"image", "container", "volume", "build-cache"};
  std::vector<std::string> asked = request.query_all("type");
  if (asked.empty() || !request.at_least(42)) return all;
  for (const std::string& type : asked) {
    if (std::find(all.begin(), all.end(), type) == all.end()) {
      return errorf(ErrorKind::kInvalid, "unknown object type: {:.80}", type);
    }
  }
  return asked;
}

}  // namespace hull::api
