#include "net/manager.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "base/error_format.h"
#include "base/log.h"
#include "sys/netns.h"

namespace hull::net {

using Impl = NetworkManager::Impl;

namespace {

constexpr const char* kGeneration = "generation";
constexpr const char* kFingerprint = "fingerprint";
constexpr const char* kLoopback6 = "loopback6";
constexpr const char* kFrameGuard = "frame_guard";

std::vector<PortRule> rules_of(const Endpoint& endpoint) {
  std::vector<PortRule> out;
  if (!endpoint.gateway || endpoint.driver != Driver::kBridge || !endpoint.leads_out) return out;
  for (const PublishedPort& port : endpoint.ports) {
    if (port.host_ip.is_v4()) {
      out.push_back({port, endpoint.ipv4});
    } else if (endpoint.ipv6) {
      out.push_back({port, *endpoint.ipv6});
    }
  }
  return out;
}

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

Result<void> check_subnets(const NetSettings& settings) {
  if (settings.subnet4 && (settings.subnet4->family() != Family::kV4 || settings.subnet4->prefix_length() < 8 ||
                           settings.subnet4->prefix_length() > 30)) {
    return errorf(ErrorKind::kInvalid, "network.subnet {}: an IPv4 subnet from /8 to /30 is meant",
                  settings.subnet4->str());
  }
  if (settings.subnet6 && (settings.subnet6->family() != Family::kV6 || settings.subnet6->prefix_length() < 16 ||
                           settings.subnet6->prefix_length() > 120)) {
    return errorf(ErrorKind::kInvalid, "network.subnet6 {}: an IPv6 subnet from /16 to /120 is meant",
                  settings.subnet6->str());
  }
  return {};
}

}  // namespace

Result<void> bring_loopback_up() {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return errnof("bring lo up: open a socket");
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) return errnof("bring lo up");
  return {};
}

Result<Links*> Impl::links() {
  if (!links_) {
    TRY_ASSIGN(auto opened, Links::open());
    links_.emplace(std::move(opened));
  }
  return &*links_;
}

Result<Ruleset*> Impl::ruleset() {
  if (!ruleset_) {
    // One table for each bridge device, so that several Hulls live side by side.
    const std::string table = settings.bridge_device == "hull0" ? "hull" : "hull_" + settings.bridge_device;
    TRY_ASSIGN(auto opened, Ruleset::open(table));
    ruleset_.emplace(std::move(opened));
  }
  return &*ruleset_;
}

Result<int> Impl::home_netns() {
  if (!home_) {
    TRY_ASSIGN(home_, sys::current_netns());
  }
  return home_.get();
}

Result<Impl::Stored> Impl::read_stored() {
  Stored out;
  auto text = sys::read_file(paths.data_dir + "/bridge.network", 4096);
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::kNotFound) return out;
    return std::move(text).error();
  }
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t newline = rest.find('\n');
    const std::string_view line = rest.substr(0, newline);
    rest = newline == std::string_view::npos ? std::string_view() : rest.substr(newline + 1);
    const size_t blank = line.find(' ');
    if (blank == std::string_view::npos) continue;
    auto subnet = Subnet::parse(line.substr(blank + 1));
    if (!subnet.ok()) {
      return std::move(subnet).error().as(ErrorKind::kCorrupt).context(paths.data_dir + "/bridge.network");
    }
    if (line.substr(0, blank) == "subnet4" && subnet->family() == Family::kV4) out.subnet4 = *subnet;
    if (line.substr(0, blank) == "subnet6" && subnet->family() == Family::kV6) out.subnet6 = *subnet;
  }
  return out;
}

Result<void> Impl::write_stored(const Network& network) {
  std::string text = fmt::format("subnet4 {}\n", network.subnet4.str());
  if (network.subnet6) text += fmt::format("subnet6 {}\n", network.subnet6->str());
  return sys::replace_file(paths.data_dir + "/bridge.network", text);
}

Result<Network> Impl::network() {
  if (!default_) {
    TRY_ASSIGN(default_, choose_network());
  }
  return *default_;
}

Result<Network> Impl::choose_network() {
  TRY(check_subnets(settings));
  TRY_ASSIGN(const Stored stored, read_stored());
  Network out;
  out.name = kDefaultNetwork;
  out.id = default_network_id(kDefaultNetwork);
  out.bridge_device = settings.bridge_device;
  out.mtu = settings.mtu;
  TRY_ASSIGN(const bool used, records->any(out.id));

  std::optional<Subnet> subnet4 = settings.subnet4 ? settings.subnet4 : stored.subnet4;
  if (!settings.subnet4 && !used) {
    // Nobody is on it: a subnet that was chosen when the host had other routes may be chosen anew.
    TRY_ASSIGN(Links * host, links());
    TRY_ASSIGN(const auto bridge, host->find(settings.bridge_device));
    if (subnet4 && !bridge) {
      TRY_ASSIGN(const auto collision, colliding_route(*host, *subnet4, 0));
      if (collision) subnet4.reset();
    }
    if (!subnet4) {
      // A network of a user's that was made meanwhile, perhaps without its bridge since the boot, keeps its subnet.
      TRY_ASSIGN(const auto made, user_networks());
      std::vector<Subnet> others;
      for (const Network& other : made) others.push_back(other.subnet4);
      TRY_ASSIGN(subnet4, choose_subnet4(*host, others));
    }
  }
  if (!subnet4) return errorf(ErrorKind::kCorrupt, "{}/bridge.network: the IPv4 subnet is missing", paths.data_dir);
  std::optional<Subnet> subnet6 = settings.subnet6 ? settings.subnet6 : stored.subnet6;
  if (!subnet6) {
    TRY_ASSIGN(subnet6, random_subnet6());
  }
  out.subnet4 = *subnet4;
  out.gateway4 = subnet4->base().plus(1);
  out.subnet6 = subnet6;
  if (stored.subnet4 != subnet4 || stored.subnet6 != subnet6) {
    if (used && stored.subnet4) {
      TRY_ASSIGN(const size_t users, records->count());
      return errorf(ErrorKind::kConflict,
                    "network {}: hull.toml asks for {}, but {} workloads live in {}; stop them first, or put the old "
                    "subnet back",
                    out.name, subnet4->str(), users, stored.subnet4->str());
    }
    TRY(write_stored(out));
  }
  if (!settings.ipv6 || !host_has_ipv6()) out.subnet6.reset();
  if (out.subnet6) out.gateway6 = out.subnet6->base().plus(1);
  return out;
}

std::string Impl::alias_prefix() const {
  return fmt::format("hull {:016x} ", fnv1a(paths.data_dir + '\n' + paths.run_dir));
}

std::string Impl::alias_of(const Network& network) const {
  return fmt::format("{}{} {} mtu {}", alias_prefix(), network.subnet4.str(),
                     network.subnet6 ? network.subnet6->str() : "-", network.mtu);
}

void Impl::complete(Endpoint& endpoint, const Network& network) {
  endpoint.network = network.name;
  endpoint.driver = network.driver;
  endpoint.leads_out = network.leads_out();
  endpoint.prefix4 = network.subnet4.prefix_length();
  endpoint.gateway4 = network.gateway4;
  if (!network.subnet6) endpoint.ipv6.reset();
  if (!endpoint.ipv6) return;
  endpoint.prefix6 = network.subnet6->prefix_length();
  endpoint.gateway6 = network.gateway6;
}

Result<void> Impl::complete(std::vector<Endpoint>& endpoints) {
  std::map<std::string, Network> seen;
  for (Endpoint& endpoint : endpoints) {
    auto it = seen.find(endpoint.network_id);
    if (it == seen.end()) {
      TRY_ASSIGN(Network network, network_of(endpoint.network_id));
      it = seen.emplace(endpoint.network_id, std::move(network)).first;
    }
    complete(endpoint, it->second);
  }
  return {};
}

Result<Network> Impl::network_of(const std::string& id) {
  if (id == default_network_id(kDefaultNetwork)) return network();
  TRY_ASSIGN(Definitions* const store, definitions(false));
  std::optional<Network> found;
  if (store != nullptr) {
    TRY_ASSIGN(found, store->by_id(id));
  }
  if (!found) return errorf(ErrorKind::kNotFound, "network {:.12} not found", id);
  return std::move(*found);
}

const Endpoint* choose_gateway(const std::vector<const Endpoint*>& endpoints) {
  const Endpoint* best = nullptr;
  for (const Endpoint* one : endpoints) {
    if (!one->leads_out) continue;
    if (best == nullptr || one->gateway_priority > best->gateway_priority ||
        (one->gateway_priority == best->gateway_priority && one->network < best->network)) {
      best = one;
    }
  }
  return best;
}

Result<uint32_t> Impl::ensure_bridge(const Network& network) {
  const std::string alias = alias_of(network);
  TRY_ASSIGN(Links * host, links());
  TRY_ASSIGN(const auto found, host->find(network.bridge_device));
  if (found && found->alias == alias && found->up) return found->index;
  if (found) {
    const bool ours = found->alias.starts_with(alias_prefix());
    if (found->kind != "bridge" || (!ours && !found->alias.empty())) {
      return errorf(
          ErrorKind::kConflict,
          "network {}: the interface {} is there and belongs to {}; {} another name, or remove it (ip link delete {})",
          network.name, network.bridge_device,
          found->alias.starts_with("hull ") ? "another Hull with other folders" : "something else",
          network.is_default() ? "set network.bridge in hull.toml to" : "give -o com.docker.network.bridge.name=",
          network.bridge_device);
    }
  }
  TRY_ASSIGN(const auto endpoints, records->list(network.id));
  const auto is_attached = [](const Endpoint& endpoint) { return endpoint.attached; };
  if (found && found->alias != alias && std::none_of(endpoints.begin(), endpoints.end(), is_attached)) {
    TRY(host->remove(found->index));  // made for other subnets, or half made
  }
  TRY_ASSIGN(const uint32_t index, host->make_bridge(network));
  TRY(prepare_bridge(network.bridge_device));
  TRY_ASSIGN(const Forwarding forwarding, enable_forwarding(network.subnet6.has_value()));
  if (forwarding.enabled4) TRY(records->set_number("enabled_forwarding4", 1));
  if (forwarding.enabled6) TRY(records->set_number("enabled_forwarding6", 1));
  for (Endpoint endpoint : endpoints) {
    if (!endpoint.attached) continue;
    complete(endpoint, network);
    auto again = host->reconnect(endpoint, index);
    if (!again.ok()) log_warning("{}", again.error().message());
  }
  TRY(host->set_alias(index, alias));
  return index;
}

Result<void> Impl::note_rules() {
  TRY_ASSIGN(Ruleset * rules, ruleset());
  // The generation first: a change in between makes us look again the next time.
  TRY_ASSIGN(const uint32_t generation, rules->generation());
  TRY_ASSIGN(const Ruleset::State state, rules->state());
  TRY(records->set_number(kFingerprint, static_cast<int64_t>(state.fingerprint)));
  return records->set_number(kGeneration, generation);
}

Result<std::vector<Network>> Impl::ruled_networks() {
  std::vector<Network> out;
  TRY_ASSIGN(out.emplace_back(), network());
  TRY_ASSIGN(const auto ids, records->active());
  for (const std::string& id : ids) {
    auto found = network_of(id);
    if (found.ok()) {
      out.push_back(std::move(*found));
    } else if (found.error().kind() == ErrorKind::kNotFound) {
      TRY(records->set_active(id, false));  // its removal was cut short
    } else {
      return std::move(found).error();
    }
  }
  return out;
}

Result<void> Impl::rebuild_rules() {
  TRY_ASSIGN(auto endpoints, records->list());
  TRY(complete(endpoints));
  std::vector<PortRule> rules;
  for (const Endpoint& endpoint : endpoints) {
    if (!endpoint.attached) continue;
    const auto some = rules_of(endpoint);
    rules.insert(rules.end(), some.begin(), some.end());
  }
  TRY_ASSIGN(const auto networks, ruled_networks());
  RulesetOptions options;
  options.loopback6 = !bridge_filters().v6;
  const auto rebuild = [&](Ruleset& table) { return table.rebuild(networks, options, rules); };
  auto rebuilt = write_rules(rebuild);
  if (!rebuilt.ok() && rebuilt.error().kind() == ErrorKind::kUnsupported) {
    options.frame_guard = false;
    rebuilt = write_rules(rebuild);
  }
  if (!rebuilt.ok()) return std::move(rebuilt).error();
  TRY(note_owner());
  TRY(records->set_number(kLoopback6, options.loopback6 ? 1 : 0));
  TRY(records->set_number(kFrameGuard, options.frame_guard ? 1 : 0));
  return note_rules();
}

Result<bool> Impl::has_frame_guard() {
  TRY_ASSIGN(const auto value, records->number(kFrameGuard));
  return value.value_or(0) != 0;
}

Result<bool> Impl::ensure_rules(Trust trust) {
  TRY_ASSIGN(Ruleset * table, ruleset());
  TRY_ASSIGN(const uint32_t generation, table->generation());
  TRY_ASSIGN(const auto seen, records->number(kGeneration));
  TRY_ASSIGN(const auto loopback6, records->number(kLoopback6));
  // br_netfilter translates the answer back to ::1 before the kernel looks for loopback addresses on the wire, and
  // drops it: then a connection to ::1 must be refused at once rather than hang.
  if (loopback6 == int64_t{bridge_filters().v6}) {
    TRY(rebuild_rules());
    return true;
  }
  TRY_ASSIGN(const bool gone, owner_is_gone());
  if (!gone && trust == Trust::kGeneration && seen == int64_t{generation}) return false;
  TRY_ASSIGN(const auto fingerprint, records->number(kFingerprint));
  TRY_ASSIGN(const Ruleset::State state, table->state());
  TRY_ASSIGN(auto endpoints, records->list());
  TRY(complete(endpoints));
  size_t elements = 0;
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.attached) elements += rules_of(endpoint).size();
  }
  TRY_ASSIGN(const auto networks, ruled_networks());
  for (const Network& one : networks) elements += Ruleset::elements(one);
  if (state.fingerprint != 0 && fingerprint == static_cast<int64_t>(state.fingerprint) && state.elements == elements) {
    TRY(records->set_number(kGeneration, generation));
    return false;
  }
  TRY(rebuild_rules());
  return true;
}

Result<void> Impl::change_rules(const std::function<Result<void>(Ruleset&)>& change) {
  TRY_ASSIGN(Ruleset * table, ruleset());
  TRY_ASSIGN(const uint32_t before, table->generation());
  auto done = write_rules(change);
  if (!done.ok()) {
    const ErrorKind kind = done.error().kind();
    if (kind != ErrorKind::kNotFound && kind != ErrorKind::kConflict) return std::move(done).error();
    return rebuild_rules();  // flushed a moment ago, or left over from one that was killed
  }
  TRY_ASSIGN(const uint32_t after, table->generation());
  TRY_ASSIGN(const auto seen, records->number(kGeneration));
  if (seen == int64_t{before} && after == before + 1) TRY(records->set_number(kGeneration, after));
  return {};
}

Result<void> Impl::activate(const Network& network) {
  if (network.is_default() || network.driver != Driver::kBridge) return {};
  TRY_ASSIGN(const bool known, records->is_active(network.id));
  if (known) return {};
  TRY(records->set_active(network.id, true));
  auto done = change_rules([&](Ruleset& table) { return table.add(network); });
  if (!done.ok()) ignore_result(records->set_active(network.id, false));
  return done;
}

Result<void> Impl::add_rules(const Endpoint& endpoint) {
  const std::vector<PortRule> rules = rules_of(endpoint);
  if (rules.empty()) return {};
  return change_rules([&](Ruleset& table) { return table.add(rules); });
}

Result<void> Impl::remove_rules(const Endpoint& endpoint) {
  const std::vector<PortRule> rules = rules_of(endpoint);
  if (rules.empty()) return {};
  if (endpoint.attached) {
    TRY(change_rules([&](Ruleset& table) { return table.remove(rules); }));
  }
  const auto publishes_udp = [&](Family family) {
    return std::any_of(rules.begin(), rules.end(), [&](const PortRule& rule) {
      return rule.port.protocol == Protocol::kUdp && rule.target.family() == family;
    });
  };
  if (publishes_udp(Family::kV4)) ignore_result(forget_connections(endpoint.ipv4, Protocol::kUdp));
  if (publishes_udp(Family::kV6)) ignore_result(forget_connections(*endpoint.ipv6, Protocol::kUdp));
  return {};
}

}  // namespace hull::net
