// Networks of users: what passes between them and what does not, several networks for a workload, macvlan and ipvlan,
// conflicts. In namespaces of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "net/test_world.h"

namespace hull::net::test {
namespace {

using ::testing::HasSubstr;

NetworkRequest bridge(const std::string& name, const std::string& subnet = "") {
  NetworkRequest out;
  out.name = name;
  if (!subnet.empty()) out.pools.emplace_back().subnet = *Subnet::parse(subnet);
  return out;
}

/// A workload on some networks; `extra` changes the request.
Container start_on(NetworkManager& manager, const std::string& id, const std::vector<std::string>& networks,
                   std::initializer_list<const char*> specs = {},
                   const std::function<void(ReserveRequest&)>& extra = {}) {
  Container out;
  out.netns = new_netns();
  ReserveRequest request;
  request.workload_id = id;
  for (const std::string& network : networks) request.endpoints.emplace_back().network = network;
  request.ports = ports(specs);
  if (extra) extra(request);
  auto reserved = manager.reserve(request);
  EXPECT_TRUE(reserved.ok()) << reserved.error().message();
  if (!reserved.ok()) return out;
  out.holders = std::move(reserved->holders);
  auto attached = manager.attach(id, out.netns.get());
  EXPECT_TRUE(attached.ok()) << attached.error().message();
  if (attached.ok()) out.endpoint = attached->front();
  return out;
}

Endpoint on(NetworkManager& manager, const std::string& id, const std::string& network) {
  const std::vector<Endpoint> all = manager.find(id).value_or({});
  for (const Endpoint& one : all) {
    if (one.network == network) return one;
  }
  ADD_FAILURE() << id << " is not on " << network;
  return {};
}

class Networks : public ::testing::Test {
 protected:
  std::string create_error(const NetworkRequest& wanted, ErrorKind kind) {
    const auto made = manager_.create(wanted);
    if (made.ok()) return "it was made";
    EXPECT_EQ(kind, made.error().kind()) << made.error().message();
    return made.error().message();
  }
  std::string reserve_error(ReserveRequest wanted) {
    const auto reserved = manager_.reserve(wanted);
    return reserved.ok() ? "it was reserved" : reserved.error().message();
  }
  std::string rules() { return shell_output(world_.host(), "nft list table inet hull"); }
  World world_;
  NetworkManager manager_ = world_.manager();
};

class NetworksTraffic : public ::testing::TestWithParam<bool> {
 protected:
  World world_{GetParam()};
  NetworkManager manager_ = world_.manager();
};
INSTANTIATE_TEST_SUITE_P(BridgeFilters, NetworksTraffic, ::testing::Bool());

TEST_P(NetworksTraffic, NothingPassesFromOneNetworkToAnother) {
  ASSERT_TRUE(manager_.create(bridge("one")).ok());
  ASSERT_TRUE(manager_.create(bridge("two")).ok());
  const Container a = start_on(manager_, "a", {"one"});
  const Container b = start_on(manager_, "b", {"one"});
  const Container c = start_on(manager_, "c", {"two"});
  const Container d = start(manager_, "d");
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const UniqueFd server = serve(b.netns.get(), type, "0.0.0.0", 80);
    EXPECT_EQ(a.v4(), talk(a.netns.get(), server.get(), type, b.v4(), 80));
    EXPECT_FALSE(talk(c.netns.get(), server.get(), type, b.v4(), 80, kNeverMs));
    EXPECT_FALSE(talk(d.netns.get(), server.get(), type, b.v4(), 80, kNeverMs));
    const UniqueFd on_default = serve(d.netns.get(), type, "0.0.0.0", 80);
    EXPECT_FALSE(talk(a.netns.get(), on_default.get(), type, d.v4(), 80, kNeverMs));
    const UniqueFd outside = serve(world_.client(), type, "198.51.100.2", 7000);
    for (const Container* one : {&a, &c, &d}) {
      EXPECT_EQ("198.51.100.1", talk(one->netns.get(), outside.get(), type, "198.51.100.2", 7000));
    }
    EXPECT_FALSE(talk(world_.client(), server.get(), type, b.v4(), 80, kNeverMs)) << "not published";
    EXPECT_TRUE(talk(world_.host(), server.get(), type, b.v4(), 80));
  }
}

TEST_P(NetworksTraffic, PortsArePublishedOnAnyNetwork) {
  ASSERT_TRUE(manager_.create(bridge("one")).ok());
  ASSERT_TRUE(manager_.create(bridge("two")).ok());
  const Container web = start_on(manager_, "web", {"one"}, {"8080:80", "5353:53/udp"});
  const Container near = start_on(manager_, "near", {"one"});
  const Container far = start_on(manager_, "far", {"two"});
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const uint16_t inner = type == SOCK_STREAM ? 80 : 53;
    const uint16_t outer = type == SOCK_STREAM ? 8080 : 5353;
    const UniqueFd server = serve(web.netns.get(), type, "0.0.0.0", inner);
    EXPECT_EQ("198.51.100.2", talk(world_.client(), server.get(), type, "198.51.100.1", outer));
    EXPECT_TRUE(talk(world_.host(), server.get(), type, "127.0.0.1", outer));
    for (const Container* from : {&web, &near, &far}) {
      SCOPED_TRACE(from->endpoint.workload_id);
      EXPECT_TRUE(talk(from->netns.get(), server.get(), type, "198.51.100.1", outer));
    }
  }
}

TEST_P(NetworksTraffic, AnInternalNetworkHasNoWayOut) {
  NetworkRequest wanted = bridge("inside");
  wanted.internal = true;
  ASSERT_TRUE(manager_.create(wanted).ok());
  ASSERT_TRUE(manager_.create(bridge("open")).ok());
  const Container a = start_on(manager_, "a", {"inside"}, {"8080:80"});
  const Container b = start_on(manager_, "b", {"inside"});
  const Container c = start_on(manager_, "c", {"open"}, {"8081:80"});
  EXPECT_EQ("", shell_output(a.netns.get(), "ip route show default"));
  const UniqueFd server = serve(b.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_EQ(a.v4(), talk(a.netns.get(), server.get(), SOCK_STREAM, b.v4(), 80));
  EXPECT_TRUE(talk(world_.host(), server.get(), SOCK_STREAM, b.v4(), 80));
  // One that gives itself a route gets nowhere either, not even to what another network publishes.
  ASSERT_EQ(0, shell(a.netns.get(), "ip route add default via " + a.endpoint.gateway4.str()));
  const UniqueFd outside = serve(world_.client(), SOCK_STREAM, "198.51.100.2", 7000);
  EXPECT_FALSE(talk(a.netns.get(), outside.get(), SOCK_STREAM, "198.51.100.2", 7000, kNeverMs));
  const UniqueFd open = serve(c.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_FALSE(talk(a.netns.get(), open.get(), SOCK_STREAM, c.v4(), 80, kNeverMs));
  EXPECT_FALSE(talk(a.netns.get(), open.get(), SOCK_STREAM, "198.51.100.1", 8081, kNeverMs));
  EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, b.v4(), 80, kNeverMs));
  EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080, kNeverMs)) << "nothing published";
}

TEST_P(NetworksTraffic, WithoutIccWorkloadsReachTheOutsideOnly) {
  NetworkRequest wanted = bridge("alone");
  wanted.options["com.docker.network.bridge.enable_icc"] = "false";
  ASSERT_TRUE(manager_.create(wanted).ok());
  const Container a = start_on(manager_, "a", {"alone"});
  const Container b = start_on(manager_, "b", {"alone"}, {"8080:80"});
  const UniqueFd server = serve(b.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_FALSE(talk(a.netns.get(), server.get(), SOCK_STREAM, b.v4(), 80, kNeverMs));
  const UniqueFd outside = serve(world_.client(), SOCK_STREAM, "198.51.100.2", 7000);
  EXPECT_EQ("198.51.100.1", talk(a.netns.get(), outside.get(), SOCK_STREAM, "198.51.100.2", 7000));
  EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
}

TEST_F(Networks, AFlushedRulesetComesBackAndOpensNothing) {
  ASSERT_TRUE(manager_.create(bridge("one")).ok());
  const Container web = start_on(manager_, "web", {"one"}, {"8080:80"});
  const std::string before = rules();
  EXPECT_THAT(before, HasSubstr("\"br-"));
  for (const char* reload : {"nft flush ruleset", "nft delete table inet hull"}) {
    SCOPED_TRACE(reload);
    ASSERT_EQ(0, shell(world_.host(), reload));
    EXPECT_TRUE(manager_.repair([](std::string_view) { return true; })->rules_restored);
    EXPECT_EQ(before, rules());
    const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
    EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
    EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, web.v4(), 80, kNeverMs));
  }
  // The next attach finds it gone too.
  ASSERT_EQ(0, shell(world_.host(), "nft flush ruleset"));
  const Container other = start_on(manager_, "other", {"one"});
  EXPECT_EQ(before, rules());
  // A firewall that clears its own tables (iptables-restore) never touches ours.
  ASSERT_EQ(0, shell(world_.host(), "printf '*filter\\n:FORWARD ACCEPT\\nCOMMIT\\n' | iptables-restore"));
  EXPECT_EQ(before, rules());
  EXPECT_FALSE(manager_.repair([](std::string_view) { return true; })->rules_restored);
}

TEST_F(Networks, AWorkloadOnSeveralHasOneWayOutAndItsPortsFollow) {
  ASSERT_TRUE(manager_.create(bridge("alpha", "10.41.0.0/24")).ok());
  ASSERT_TRUE(manager_.create(bridge("beta", "10.42.0.0/24")).ok());
  const Container web = start_on(manager_, "web", {"beta"}, {"8080:80"});
  const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  const auto reaches = [&] {
    return talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080).has_value();
  };
  const auto route = [&] { return shell_output(web.netns.get(), "ip -4 route show default"); };
  EXPECT_TRUE(reaches());
  EXPECT_THAT(route(), HasSubstr("via 10.42.0.1 dev eth0"));

  ReserveRequest more;
  more.workload_id = "web";
  more.endpoints.emplace_back().network = "alpha";
  ASSERT_TRUE(manager_.reserve(more).ok());
  EXPECT_THAT(reserve_error(more), HasSubstr("is on network alpha already"));
  const auto attached = manager_.attach("web", web.netns.get());
  ASSERT_TRUE(attached.ok()) << attached.error().message();
  EXPECT_EQ("eth1", attached->front().interface_name);
  EXPECT_THAT(route(), HasSubstr("via 10.41.0.1 dev eth1")) << "the first by name";
  EXPECT_TRUE(reaches());
  EXPECT_THAT(rules(), HasSubstr(on(manager_, "web", "alpha").ipv4.str()));
  EXPECT_TRUE(on(manager_, "web", "alpha").gateway);
  EXPECT_FALSE(on(manager_, "web", "beta").gateway);

  ASSERT_TRUE(manager_.disconnect("web", "alpha", web.netns.get()).ok());
  EXPECT_THAT(route(), HasSubstr("via 10.42.0.1 dev eth0"));
  EXPECT_NE(0, shell(web.netns.get(), "ip link show eth1"));
  EXPECT_TRUE(reaches());
  EXPECT_EQ(ErrorKind::kNotFound, manager_.disconnect("web", "alpha", web.netns.get()).error().kind());

  more.endpoints[0].gateway_priority = -1;
  ASSERT_TRUE(manager_.reserve(more).ok());
  ASSERT_TRUE(manager_.attach("web", web.netns.get()).ok());
  EXPECT_THAT(route(), HasSubstr("via 10.42.0.1 dev eth0")) << "a lower priority";
  ASSERT_TRUE(manager_.disconnect("web", "beta", web.netns.get()).ok());
  ASSERT_TRUE(manager_.disconnect("web", "alpha", web.netns.get()).ok());
  EXPECT_FALSE(reaches());
  EXPECT_TRUE(manager_.find("web")->empty());
  EXPECT_TRUE(manager_.detach("web").ok());
}

TEST_F(Networks, AddressesAreGivenAsAsked) {
  NetworkRequest wanted = bridge("lan", "10.43.0.0/16");
  wanted.pools[0].gateway = *IpAddress::parse("10.43.0.254");
  wanted.pools[0].range = *Subnet::parse("10.43.5.0/29");
  wanted.pools[0].taken["printer"] = *IpAddress::parse("10.43.5.1");
  ASSERT_TRUE(manager_.create(wanted).ok());
  EXPECT_EQ("10.43.5.0", start_on(manager_, "a", {"lan"}).v4());
  EXPECT_EQ("10.43.5.2", start_on(manager_, "b", {"lan"}).v4());
  const Container fixed = start_on(manager_, "c", {"lan"}, {}, [](ReserveRequest& request) {
    request.endpoints[0].ipv4 = *IpAddress::parse("10.43.9.9");
    request.endpoints[0].mac = *MacAddress::parse("02:00:00:00:00:77");
    request.endpoints[0].interface_name = "lan0";
  });
  EXPECT_EQ("10.43.9.9", fixed.v4());
  EXPECT_THAT(shell_output(fixed.netns.get(), "ip -br link show lan0"), HasSubstr("02:00:00:00:00:77"));
  EXPECT_THAT(shell_output(fixed.netns.get(), "ip route show default"), HasSubstr("via 10.43.0.254 dev lan0"));
  ReserveRequest request;
  request.workload_id = "d";
  request.endpoints.emplace_back().network = "lan";
  const auto says = [&](const char* address) {
    request.endpoints[0].ipv4 = *IpAddress::parse(address);
    return reserve_error(request);
  };
  EXPECT_THAT(says("10.43.9.9"), HasSubstr("in use by workload c"));
  EXPECT_THAT(says("10.43.5.1"), HasSubstr("kept for printer"));
  EXPECT_THAT(says("10.43.0.254"), HasSubstr("gateway"));
  EXPECT_THAT(says("10.44.0.1"), HasSubstr("not in the subnet 10.43.0.0/16"));
  request.endpoints[0].ipv4.reset();
  request.endpoints[0].network = "nowhere";
  EXPECT_THAT(reserve_error(request), HasSubstr("network nowhere not found"));
  for (int i = 0; i < 5; ++i) start_on(manager_, "more" + std::to_string(i), {"lan"});
  request.endpoints[0].network = "lan";
  EXPECT_THAT(reserve_error(request), HasSubstr("all of 10.43.5.0/29 are in use"));
}

TEST_F(Networks, Ipv6IsThereWhenAskedFor) {
  NetworkRequest wanted = bridge("six");
  wanted.ipv6 = true;
  wanted.pools.emplace_back().subnet = *Subnet::parse("2001:db8:77::/64");
  ASSERT_TRUE(manager_.create(wanted).ok());
  ASSERT_TRUE(manager_.create(bridge("four")).ok());
  const Container a = start_on(manager_, "a", {"six"}, {"8080:80"});
  const Container b = start_on(manager_, "b", {"six"});
  const Container c = start(manager_, "c");
  EXPECT_THAT(a.v6(), HasSubstr("2001:db8:77::"));
  EXPECT_EQ("", start_on(manager_, "d", {"four"}).v6());
  const UniqueFd server = serve(a.netns.get(), SOCK_STREAM, "::", 80);
  EXPECT_EQ(b.v6(), talk(b.netns.get(), server.get(), SOCK_STREAM, a.v6(), 80));
  EXPECT_FALSE(talk(c.netns.get(), server.get(), SOCK_STREAM, a.v6(), 80, kNeverMs));
  EXPECT_EQ("2001:db8::2", talk(world_.client(), server.get(), SOCK_STREAM, "2001:db8::1", 8080));
  EXPECT_TRUE(talk(world_.host(), server.get(), SOCK_STREAM, "::1", 8080));
}

TEST_F(Networks, OptionsOfABridgeAct) {
  NetworkRequest wanted = bridge("shaped", "10.45.0.0/24");
  wanted.options = {{"com.docker.network.bridge.name", "shaped0"},
                    {"com.docker.network.driver.mtu", "1400"},
                    {"com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"},
                    {"com.docker.network.bridge.enable_ip_masquerade", "false"},
                    {"com.docker.network.container_iface_prefix", "net"}};
  wanted.labels = {{"a", "b"}};
  ASSERT_TRUE(manager_.create(wanted).ok());
  EXPECT_THAT(shell_output(world_.host(), "ip link show shaped0"), HasSubstr("mtu 1400"));
  const Container web = start_on(manager_, "web", {"shaped"}, {"8080:80"});
  EXPECT_THAT(shell_output(web.netns.get(), "ip link show net0"), HasSubstr("mtu 1400"));
  const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_TRUE(talk(world_.host(), server.get(), SOCK_STREAM, "127.0.0.1", 8080));
  EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080, kNeverMs));
  ASSERT_EQ(0, shell(world_.client(), "ip route add 10.45.0.0/24 via 198.51.100.1"));
  const UniqueFd outside = serve(world_.client(), SOCK_STREAM, "198.51.100.2", 7000);
  EXPECT_EQ(web.v4(), talk(web.netns.get(), outside.get(), SOCK_STREAM, "198.51.100.2", 7000)) << "its own address";
  // Everything is there again for another command.
  NetworkManager again = world_.manager();
  const Network read = *again.inspect("shaped");
  EXPECT_EQ(wanted.options, read.options);
  EXPECT_EQ(wanted.labels, read.labels);
  EXPECT_EQ(read.id, again.inspect(read.id.substr(0, 6))->id);
}

TEST_F(Networks, ConflictsAreToldApart) {
  ASSERT_TRUE(manager_.create(bridge("one", "10.46.0.0/16")).ok());
  EXPECT_EQ("network with name one already exists", create_error(bridge("one"), ErrorKind::kExists));
  EXPECT_THAT(create_error(bridge("two", "10.46.7.0/24"), ErrorKind::kConflict), HasSubstr("Pool overlaps"));
  EXPECT_THAT(create_error(bridge("two", "10.0.0.0/8"), ErrorKind::kConflict), HasSubstr("Pool overlaps"));
  EXPECT_THAT(create_error(bridge("two", "198.51.100.0/24"), ErrorKind::kConflict), HasSubstr("overlaps the route"));
  EXPECT_THAT(create_error(bridge("two", manager_.inspect()->subnet4.str()), ErrorKind::kConflict),
              HasSubstr("Pool overlaps"));
  EXPECT_THAT(create_error(bridge("host"), ErrorKind::kPermission), HasSubstr("predefined host network"));
  EXPECT_THAT(create_error(bridge("a b"), ErrorKind::kInvalid), HasSubstr("invalid network name"));
  NetworkRequest wanted = bridge("two");
  wanted.options["com.docker.network.bridge.name"] = manager_.inspect("one")->bridge_device;
  EXPECT_THAT(create_error(wanted, ErrorKind::kConflict), HasSubstr("networks have same bridge name"));
  wanted.options = {{"com.docker.network.bridge.name", "up0"}};
  EXPECT_THAT(create_error(wanted, ErrorKind::kConflict), HasSubstr("up0 is there and belongs to something else"));
  EXPECT_EQ(ErrorKind::kNotFound, manager_.inspect("two").error().kind()) << "nothing stays of a failed creation";
  EXPECT_EQ(0, shell(world_.host(), "ip link show up0 >/dev/null")) << "what is not ours is not removed";
  wanted.options = {{"colour", "red"}};
  EXPECT_THAT(create_error(wanted, ErrorKind::kInvalid), HasSubstr("network option colour"));
  wanted.options = {{"com.docker.network.bridge.enable_icc", "perhaps"}};
  EXPECT_THAT(create_error(wanted, ErrorKind::kInvalid), HasSubstr("true or false"));
  wanted = bridge("two");
  wanted.driver = "overlay";
  EXPECT_THAT(create_error(wanted, ErrorKind::kUnavailable), HasSubstr("swarm"));
  wanted.driver = "weave";
  EXPECT_THAT(create_error(wanted, ErrorKind::kNotFound), HasSubstr("weave"));

  const Container a = start_on(manager_, "a", {"one"});
  EXPECT_THAT(manager_.remove("one").error().message(), HasSubstr("has active endpoints"));
  EXPECT_EQ(ErrorKind::kPermission, manager_.remove("bridge").error().kind());
  EXPECT_EQ(ErrorKind::kNotFound, manager_.remove("two").error().kind());
  ASSERT_TRUE(manager_.detach("a").ok());
  const std::string device = manager_.inspect("one")->bridge_device;
  ASSERT_TRUE(manager_.remove("one").ok());
  EXPECT_NE(0, shell(world_.host(), "ip link show " + device));
  EXPECT_THAT(rules(), ::testing::Not(HasSubstr(device)));
}

class Stacked : public Networks {
 protected:
  bool kernel_has(const std::string& kind) {
    return shell(world_.client(), "ip link add trial0 link eth0 type " + kind + " 2>/dev/null && ip link del trial0") ==
           0;
  }
  void stands_upon_its_parent(const std::string& driver) {
    NetworkRequest wanted = bridge("lan", "198.51.100.0/24");
    wanted.driver = driver;
    wanted.options["parent"] = "up0";
    wanted.pools[0].gateway = *IpAddress::parse("198.51.100.2");
    wanted.pools[0].range = *Subnet::parse("198.51.100.128/25");
    const auto made = manager_.create(wanted);
    ASSERT_TRUE(made.ok()) << made.error().message();
    NetworkRequest second = bridge("second");
    second.driver = driver;
    second.options["parent"] = "up0";
    EXPECT_THAT(create_error(second, ErrorKind::kConflict), HasSubstr("already using parent interface up0"));
    const Container a = start_on(manager_, "a", {"lan"}, {"8080:80"});
    const Container b = start_on(manager_, "b", {"lan"});
    EXPECT_THAT(shell_output(a.netns.get(), "ip route show default"), HasSubstr("via 198.51.100.2 dev eth0"));
    const UniqueFd server = serve(b.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
    EXPECT_EQ(a.v4(), talk(a.netns.get(), server.get(), SOCK_STREAM, b.v4(), 80));
    EXPECT_EQ("198.51.100.2", talk(world_.client(), server.get(), SOCK_STREAM, b.v4(), 80)) << "on the same wire";
    ASSERT_TRUE(manager_.disconnect("a", "lan", a.netns.get()).ok());
    EXPECT_NE(0, shell(a.netns.get(), "ip link show eth0 2>/dev/null"));
    ASSERT_TRUE(manager_.detach("b").ok());
    ASSERT_TRUE(manager_.remove("lan").ok());
    EXPECT_EQ(0, shell(world_.host(), "ip link show up0 >/dev/null"));
  }
};

TEST_F(Stacked, MacvlanStandsUponItsParent) { stands_upon_its_parent("macvlan"); }

TEST_F(Stacked, IpvlanStandsUponItsParent) {
  if (!kernel_has("ipvlan")) GTEST_SKIP() << "this kernel has no ipvlan";
  stands_upon_its_parent("ipvlan");
  for (const char* mode : {"l2", "l3", "l3s"}) {
    SCOPED_TRACE(mode);
    NetworkRequest ipvlan = bridge(std::string("ip") + mode);
    ipvlan.driver = "ipvlan";
    ipvlan.options = {{"parent", "up0"}, {"ipvlan_mode", mode}};
    ASSERT_TRUE(manager_.create(ipvlan).ok());
    const Container d = start_on(manager_, "d", {ipvlan.name});
    const std::string route = shell_output(d.netns.get(), "ip route show default");
    EXPECT_THAT(route, HasSubstr(std::string(mode) == "l2" ? "via " : "default dev eth0"));
    ASSERT_TRUE(manager_.disconnect("d", ipvlan.name, d.netns.get()).ok());
    ASSERT_TRUE(manager_.remove(ipvlan.name).ok());
  }
}

TEST_F(Stacked, AMissingVlanIsMadeAndGoesWithItsNetwork) {
  if (!kernel_has("vlan id 10")) GTEST_SKIP() << "this kernel has no VLANs";
  NetworkRequest wanted = bridge("vlan", "10.47.0.0/24");
  wanted.driver = "macvlan";
  wanted.options["parent"] = "up0.10";
  ASSERT_TRUE(manager_.create(wanted).ok());
  EXPECT_THAT(shell_output(world_.host(), "ip -d link show up0.10"), HasSubstr("vlan protocol 802.1Q id 10"));
  {
    const Container a = start_on(manager_, "a", {"vlan"});
  }
  ASSERT_TRUE(manager_.detach("a").ok());
  ASSERT_TRUE(manager_.remove("vlan").ok());
  EXPECT_NE(0, shell(world_.host(), "ip link show up0.10 2>/dev/null"));
}

TEST_F(Stacked, WithoutAParentNothingIsOutside) {
  NetworkRequest wanted = bridge("alone", "10.47.0.0/24");
  wanted.driver = "macvlan";
  wanted.options["parent"] = "absent0";
  EXPECT_THAT(create_error(wanted, ErrorKind::kInvalid), HasSubstr("parent interface absent0 is not there"));
  wanted.options.erase("parent");
  const auto made = manager_.create(wanted);
  ASSERT_TRUE(made.ok()) << made.error().message();
  const Container b = start_on(manager_, "b", {"alone"});
  const Container c = start_on(manager_, "c", {"alone"});
  EXPECT_EQ("", shell_output(b.netns.get(), "ip route show default"));
  const UniqueFd server = serve(c.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_TRUE(talk(b.netns.get(), server.get(), SOCK_STREAM, c.v4(), 80));
  ASSERT_TRUE(manager_.detach("b").ok() && manager_.detach("c").ok());
  ASSERT_TRUE(manager_.remove("alone").ok());
  EXPECT_EQ("0\n", shell_output(world_.host(), "ip -br link | grep -c ^dm-"));
}

TEST_F(Networks, AKillAnywhereLeavesWhatTheNextCommandMends) {
  // Each round kills a command after a longer while, from before the first step to after the last.
  const auto begin = std::chrono::steady_clock::now();
  {
    ASSERT_TRUE(manager_.create(bridge("measure")).ok());
    ASSERT_TRUE(manager_.remove("measure").ok());
  }
  const auto whole = std::chrono::steady_clock::now() - begin;
  constexpr int kRounds = 40;
  for (int i = 0; i < kRounds; ++i) {
    const std::string name = "n" + std::to_string(i);
    const pid_t child = ::fork();
    if (child == 0) {
      auto manager = NetworkManager::open(world_.paths(), {});
      if (!manager.ok() || !manager->create(bridge(name)).ok() || !manager->remove(name).ok()) ::_exit(1);
      ::_exit(0);
    }
    std::this_thread::sleep_for(whole * i / (kRounds / 2));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto left = manager_.inspect(name);
    if (!left.ok()) continue;
    SCOPED_TRACE(name);
    EXPECT_EQ(ErrorKind::kExists, manager_.create(bridge(name)).error().kind());
    const Container a = start_on(manager_, "a" + name, {name});
    ASSERT_TRUE(manager_.detach("a" + name).ok());
    const auto removed = manager_.remove(name);
    EXPECT_TRUE(removed.ok()) << removed.error().message();
  }
  EXPECT_TRUE(manager_.repair([](std::string_view) { return false; }).ok());
  EXPECT_EQ(3u, manager_.networks()->size());
  EXPECT_EQ("0\n", shell_output(world_.host(), "ip -br link | grep -c ^br-"));
}

}  // namespace
}  // namespace hull::net::test
