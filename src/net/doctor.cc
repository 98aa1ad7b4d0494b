#include <sched.h>

#include <algorithm>
#include <thread>

#include "base/error_format.h"
#include "net/forward_policy.h"
#include "net/manager.h"
#include "sys/netns.h"

namespace hull::net {

using Impl = NetworkManager::Impl;
using Status = Check::Status;

namespace {

Check ok(std::string name, std::string detail) { return {std::move(name), Status::kOk, std::move(detail), ""}; }
Check warning(std::string name, std::string detail, std::string remedy) {
  return {std::move(name), Status::kWarning, std::move(detail), std::move(remedy)};
}
Check failed(std::string name, std::string detail, std::string remedy) {
  return {std::move(name), Status::kFailed, std::move(detail), std::move(remedy)};
}

// A network like ours, for a namespace that ends with the trial.
Network trial_network() {
  Network out;
  out.name = "trial";
  out.bridge_device = "trial0";
  out.subnet4 = Subnet::parse("192.0.2.0/24").value_or({});
  out.gateway4 = out.subnet4.base().plus(1);
  if (host_has_ipv6()) {
    out.subnet6 = Subnet::parse("2001:db8::/64").value_or({});
    out.gateway6 = out.subnet6->base().plus(1);
  }
  return out;
}

Result<void> try_links(const Network& network) {
  TRY_ASSIGN(Links links, Links::open());
  TRY_ASSIGN(const uint32_t bridge, links.make_bridge(network));
  Endpoint endpoint;
  endpoint.workload_id = "trial";
  endpoint.network = network.name;
  endpoint.interface_name = "eth0";
  endpoint.host_interface = "hvtrial";
  endpoint.ipv4 = network.subnet4.base().plus(2);
  endpoint.mac = MacAddress::derived_from(endpoint.ipv4);
  TRY_ASSIGN(const UniqueFd here, sys::current_netns());
  TRY_ASSIGN(const uint32_t port, links.connect(endpoint, here.get(), {bridge, network.mtu, false}));
  return links.remove(port);
}

// What the kernel can do, tried out where it touches nothing.
void try_kernel(std::vector<Check>& out) {
  if (::unshare(CLONE_NEWNET) != 0) {
    out.push_back(failed("network namespaces", errno_error("make a network namespace").message(),
                         "run as root on a kernel with CONFIG_NET_NS"));
    return;
  }
  const Network network = trial_network();
  const auto links = try_links(network);
  out.push_back(links.ok() ? ok("bridge and veth", "work")
                           : failed("bridge and veth", links.error().message(),
                                    "load the kernel modules bridge and veth (modprobe bridge veth)"));
  auto rules = Ruleset::open("trial");
  if (!rules.ok()) {
    out.push_back(failed("nftables", rules.error().message(), "load the kernel module nf_tables"));
    return;
  }
  const auto table = rules->rebuild({&network, 1}, {true, false}, {});
  out.push_back(table.ok()
                    ? ok("nftables", "works: maps, fib, connection tracking, address translation")
                    : failed("nftables", table.error().message(),
                             "load the kernel modules nf_tables, nft_nat, nft_masq, nft_ct, nft_fib_inet; without "
                             "them use --network host or none"));
  const auto frames = rules->rebuild({&network, 1}, {true, true}, {});
  out.push_back(
      frames.ok() || !table.ok()
          ? ok("nftables for bridges", "works")
          : warning("nftables for bridges", frames.error().message(),
                    "load the kernel module nft_meta_bridge; without it starting gets slower with hundreds of "
                    "workloads on a bridge"));
}

Check check_forwarding(Impl& impl, bool bridge_exists) {
  auto forwarding = is_forwarding(Family::kV4);
  if (!forwarding.ok()) {
    return failed("forwarding", forwarding.error().message(), "mount /proc with sysctls (net.ipv4.ip_forward)");
  }
  if (*forwarding) {
    auto by_us = impl.records->number("enabled_forwarding4");
    const bool ours = by_us.ok() && by_us->value_or(0) != 0;
    return ok("forwarding", ours ? "on (Hull switched it on: this host now routes for its neighbours too, unless its "
                                   "firewall forbids it)"
                                 : "on");
  }
  if (!bridge_exists) return ok("forwarding", "off; the first workload on a network switches it on");
  return warning("forwarding", "something switched net.ipv4.ip_forward off: containers reach nothing but this host",
                 "sysctl -w net.ipv4.ip_forward=1, and look for what switches it off in /etc/sysctl.d");
}

Check check_policies(Ruleset& ruleset, const std::string& device) {
  const std::vector<std::string> chains = dropping_forward_chains(ruleset);
  if (chains.empty()) return ok("forward policy", "no other firewall drops forwarded packets by default");
  std::string names;
  for (const std::string& chain : chains) names += (names.empty() ? "" : ", ") + chain;
  return warning("forward policy",
                 fmt::format("another firewall drops what it does not know ({}), perhaps what containers send", names),
                 fmt::format("let {0} pass: with Docker on this host 'iptables -I DOCKER-USER -i {0} -j ACCEPT' and "
                             "'iptables -I DOCKER-USER -o {0} -j ACCEPT' (and ip6tables); with firewalld 'firewall-cmd "
                             "--zone=trusted --add-interface={0}'; else accept {0} in the named chains",
                             device));
}

Check check_holding(Ruleset& ruleset, size_t endpoints) {
  const auto holding = ruleset.holding();
  if (!holding.ok()) return failed("rules", holding.error().message(), "run as root");
  if (*holding == Holding::kAbsent) return ok("rules", "none; the first workload on a network makes them");
  if (*holding == Holding::kOwned) return ok("rules", "held by the monitors of workloads: nobody else can flush them");
  if (endpoints > 0) {
    return warning(
        "rules", "open to changes by others: 'nft flush ruleset' would open ports and networks until the next command",
        "let Hull take descriptors of its monitors (pidfd_getfd: CAP_SYS_PTRACE, kernel.yama.ptrace_scope below 3) and "
        "start a workload");
  }
  return ok("rules", "held by nobody while no workload needs them; the next one makes or takes them");
}

}  // namespace

std::vector<Check> NetworkManager::doctor() {
  std::vector<Check> out;
  std::thread(try_kernel, std::ref(out)).join();  // a thread, for it never comes back from its namespace

  auto lock = impl_->lock();
  if (!lock.ok()) {
    out.push_back(failed("network records", lock.error().message(), "run as root"));
    return out;
  }
  auto links = impl_->links();
  if (!links.ok()) return out;
  auto bridge = (*links)->find(impl_->settings.bridge_device);
  const bool exists = bridge.ok() && bridge->has_value();
  out.push_back(check_forwarding(*impl_, exists));
  auto ruleset = impl_->ruleset();
  if (ruleset.ok()) out.push_back(check_policies(**ruleset, impl_->settings.bridge_device));
  if (ruleset.ok()) out.push_back(check_holding(**ruleset, impl_->records->count().value_or(0)));

  out.push_back(host_has_ipv6() ? ok("IPv6", "on")
                                : warning("IPv6",
                                          "off on this host (disable_ipv6, or no kernel support): containers get "
                                          "IPv4 only",
                                          "sysctl -w net.ipv6.conf.default.disable_ipv6=0, or network.ipv6=false in "
                                          "hull.toml"));
  const BridgeFilters filters = bridge_filters();
  out.push_back(filters.v6 ? warning("bridged frames",
                                     "pass through the firewall (br_netfilter): ports are not "
                                     "reachable through [::1]",
                                     "sysctl -w net.bridge.bridge-nf-call-ip6tables=0 where nothing else needs it")
                           : ok("bridged frames", "do not pass through the firewall"));
  auto network = impl_->network();
  if (!network.ok()) {
    out.push_back(failed("subnet", network.error().message(), "set network.subnet in hull.toml"));
    return out;
  }
  auto collision = colliding_route(**links, network->subnet4, exists ? (*bridge)->index : 0);
  if (collision.ok() && *collision) {
    out.push_back(warning(
        "subnet", fmt::format("{} overlaps the route {} of this host", network->subnet4.str(), (*collision)->str()),
        "set network.subnet in hull.toml to a free subnet and start the workloads again"));
  } else {
    out.push_back(ok("subnet", network->subnet4.str() + (network->subnet6 ? " and " + network->subnet6->str() : "")));
  }
  auto users = impl_->records->count();
  if (users.ok()) {
    const std::string detail = fmt::format("{} of {} in use", *users, kBridgePortLimit);
    out.push_back(*users * 10 < kBridgePortLimit * 9
                      ? ok("bridge ports", detail)
                      : warning("bridge ports", detail, "run further workloads with --network host or none"));
  }
  return out;
}

}  // namespace hull::net
