// Real packets through real bridges, in namespaces of the test's own.
#include "net/test_world.h"

namespace hull::net {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers are made for these tests

class Traffic : public ::testing::TestWithParam<bool> {
 protected:
  World world_{GetParam()};
  NetworkManager manager_ = world_.manager();
};
INSTANTIATE_TEST_SUITE_P(BridgeFilters, Traffic, ::testing::Bool());

TEST_P(Traffic, OutsideReachesPublishedPortsAndItsAddressIsKept) {
  const Container web = start(manager_, "web", {"8080:80", "5353:53/udp"});
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const uint16_t inner = type == SOCK_STREAM ? 80 : 53;
    const uint16_t outer = type == SOCK_STREAM ? 8080 : 5353;
    const UniqueFd server4 = serve(web.netns.get(), type, "0.0.0.0", inner);
    const UniqueFd server6 = serve(web.netns.get(), type, "::", inner);
    EXPECT_EQ("198.51.100.2", talk(world_.client(), server4.get(), type, "198.51.100.1", outer));
    EXPECT_EQ("2001:db8::2", talk(world_.client(), server6.get(), type, "2001:db8::1", outer));
  }
}

TEST_P(Traffic, TheHostReachesPublishedPorts) {
  const Container web = start(manager_, "web", {"8080:80", "5353:53/udp"});
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const uint16_t inner = type == SOCK_STREAM ? 80 : 53;
    const uint16_t outer = type == SOCK_STREAM ? 8080 : 5353;
    const UniqueFd server4 = serve(web.netns.get(), type, "0.0.0.0", inner);
    const UniqueFd server6 = serve(web.netns.get(), type, "::", inner);
    EXPECT_EQ(web.endpoint.gateway4.str(), talk(world_.host(), server4.get(), type, "127.0.0.1", outer));
    EXPECT_EQ("198.51.100.1", talk(world_.host(), server4.get(), type, "198.51.100.1", outer));
    EXPECT_TRUE(talk(world_.host(), server4.get(), type, web.endpoint.gateway4.str(), outer));
    EXPECT_EQ("2001:db8::1", talk(world_.host(), server6.get(), type, "2001:db8::1", outer));
    if (!GetParam()) {
      EXPECT_EQ(web.endpoint.gateway6->str(), talk(world_.host(), server6.get(), type, "::1", outer));
    } else if (type == SOCK_STREAM) {
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_FALSE(talk(world_.host(), server6.get(), type, "::1", outer));
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(kSoonMs)) << "refused, not lost";
    }
    EXPECT_TRUE(talk(world_.host(), server4.get(), type, web.v4(), inner));
    EXPECT_TRUE(talk(world_.host(), server6.get(), type, web.v6(), inner));
  }
}

TEST_P(Traffic, ContainersReachEachOtherAndPublishedPortsThroughTheHost) {
  const Container web = start(manager_, "web", {"8080:80", "5353:53/udp"});
  const Container other = start(manager_, "other");
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const uint16_t inner = type == SOCK_STREAM ? 80 : 53;
    const uint16_t outer = type == SOCK_STREAM ? 8080 : 5353;
    const UniqueFd server4 = serve(web.netns.get(), type, "0.0.0.0", inner);
    const UniqueFd server6 = serve(web.netns.get(), type, "::", inner);
    EXPECT_EQ(other.v4(), talk(other.netns.get(), server4.get(), type, web.v4(), inner));
    EXPECT_EQ(other.v6(), talk(other.netns.get(), server6.get(), type, web.v6(), inner));
    for (const Container* from : {&other, &web}) {
      SCOPED_TRACE(from->endpoint.workload_id);
      EXPECT_TRUE(talk(from->netns.get(), server4.get(), type, "198.51.100.1", outer));
      EXPECT_TRUE(talk(from->netns.get(), server4.get(), type, web.endpoint.gateway4.str(), outer));
      EXPECT_TRUE(talk(from->netns.get(), server6.get(), type, "2001:db8::1", outer));
    }
  }
}

TEST_P(Traffic, OutgoingConnectionsBearTheHostsAddress) {
  const Container container = start(manager_, "c");
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const UniqueFd server4 = serve(world_.client(), type, "198.51.100.2", 7000);
    const UniqueFd server6 = serve(world_.client(), type, "2001:db8::2", 7000);
    EXPECT_EQ("198.51.100.1", talk(container.netns.get(), server4.get(), type, "198.51.100.2", 7000));
    EXPECT_EQ("2001:db8::1", talk(container.netns.get(), server6.get(), type, "2001:db8::2", 7000));
  }
}

TEST_P(Traffic, WhatIsNotPublishedIsNotReachableFromOutside) {
  const Container web = start(manager_, "web", {"8080:80"});
  const UniqueFd published4 = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  const UniqueFd secret4 = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 81);
  const UniqueFd published6 = serve(web.netns.get(), SOCK_STREAM, "::", 80);
  EXPECT_FALSE(talk(world_.client(), secret4.get(), SOCK_STREAM, web.v4(), 81, kNeverMs));
  EXPECT_FALSE(talk(world_.client(), published4.get(), SOCK_STREAM, web.v4(), 80, kNeverMs));
  EXPECT_FALSE(talk(world_.client(), published6.get(), SOCK_STREAM, web.v6(), 80, kNeverMs));
  EXPECT_FALSE(talk(world_.client(), secret4.get(), SOCK_STREAM, "198.51.100.1", 81, kNeverMs));
}

// A hostile neighbour addresses packets for a loopback address to the host's Ethernet address.
void route_loopback_to(int netns, const std::string& gateway4, const std::string& gateway6) {
  EXPECT_EQ(0, shell(netns,
                     "sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1 "
                     "&& ip addr del 127.0.0.1/8 dev lo && ip route add 127.0.0.1/32 via " +
                         gateway4 + " dev eth0 && ip addr del ::1/128 dev lo && ip -6 route add ::1/128 via " +
                         gateway6 + " dev eth0"));
}

TEST_P(Traffic, WhatIsPublishedOnLoopbackStaysThere) {
  const bool loopback6 = !GetParam();
  if (!loopback6) {
    ReserveRequest request;
    request.workload_id = "refused";
    request.ports = ports({"[::1]:8080:80"});
    const auto refused = manager_.reserve(request);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(ErrorKind::kUnsupported, refused.error().kind());
  }
  const Container web = loopback6 ? start(manager_, "web", {"127.0.0.1:8080:80", "[::1]:8080:80"})
                                  : start(manager_, "web", {"127.0.0.1:8080:80"});
  const UniqueFd server4 = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  const UniqueFd server6 = serve(web.netns.get(), SOCK_STREAM, "::", 80);
  EXPECT_TRUE(talk(world_.host(), server4.get(), SOCK_STREAM, "127.0.0.1", 8080));
  EXPECT_EQ(loopback6, talk(world_.host(), server6.get(), SOCK_STREAM, "::1", 8080).has_value());
  for (const int from : {world_.client(), world_.host()}) {
    EXPECT_FALSE(talk(from, server4.get(), SOCK_STREAM, "198.51.100.1", 8080, kNeverMs));
    EXPECT_FALSE(talk(from, server6.get(), SOCK_STREAM, "2001:db8::1", 8080, kNeverMs));
  }
  route_loopback_to(world_.client(), "198.51.100.1", "2001:db8::1");
  EXPECT_FALSE(talk(world_.client(), server4.get(), SOCK_STREAM, "127.0.0.1", 8080, kNeverMs, "198.51.100.2"));
  EXPECT_FALSE(talk(world_.client(), server6.get(), SOCK_STREAM, "::1", 8080, kNeverMs, "2001:db8::2"));
}

TEST_P(Traffic, ContainersDoNotReachTheHostsLoopback) {
  const Container bad = start(manager_, "bad");
  const UniqueFd server4 = serve(world_.host(), SOCK_STREAM, "127.0.0.1", 9000);
  const UniqueFd server6 = serve(world_.host(), SOCK_STREAM, "::1", 9000);
  EXPECT_TRUE(talk(world_.host(), server6.get(), SOCK_STREAM, "::1", 9000));
  route_loopback_to(bad.netns.get(), bad.endpoint.gateway4.str(), bad.endpoint.gateway6->str());
  EXPECT_FALSE(talk(bad.netns.get(), server4.get(), SOCK_STREAM, "127.0.0.1", 9000, kNeverMs, bad.v4()));
  EXPECT_FALSE(talk(bad.netns.get(), server6.get(), SOCK_STREAM, "::1", 9000, kNeverMs, bad.v6()));
}

TEST_P(Traffic, HostAddressesAndRangesArePublishedAsAsked) {
  const Container web = start(manager_, "web", {"198.51.100.1:8000-8003:80-83", "[2001:db8::1]:8000:80"});
  for (uint16_t i = 0; i < 4; ++i) {
    const uint16_t port = static_cast<uint16_t>(80 + i);
    const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", port);
    EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", static_cast<uint16_t>(8000 + i)));
    EXPECT_FALSE(
        talk(world_.host(), server.get(), SOCK_STREAM, "127.0.0.1", static_cast<uint16_t>(8000 + i), kNeverMs));
  }
  const UniqueFd server6 = serve(web.netns.get(), SOCK_STREAM, "::", 80);
  EXPECT_EQ("2001:db8::2", talk(world_.client(), server6.get(), SOCK_STREAM, "2001:db8::1", 8000));
}

TEST_P(Traffic, AfterDetachNothingIsPublished) {
  Container web = start(manager_, "web", {"8080:80", "5353:53/udp"});
  const UniqueFd server = serve(web.netns.get(), SOCK_DGRAM, "0.0.0.0", 53);
  EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_DGRAM, "198.51.100.1", 5353));
  ASSERT_TRUE(manager_.detach("web").ok());
  EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_DGRAM, "198.51.100.1", 5353, kNeverMs));
  web.holders.clear();
  const Container next = start(manager_, "next", {"5353:53/udp"});
  const UniqueFd server2 = serve(next.netns.get(), SOCK_DGRAM, "0.0.0.0", 53);
  EXPECT_TRUE(talk(world_.client(), server2.get(), SOCK_DGRAM, "198.51.100.1", 5353));
}

TEST_P(Traffic, AFlushedFirewallIsRestored) {
  const Container web = start(manager_, "web", {"8080:80"});
  const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  for (const char* damage : {"nft flush ruleset", "nft flush table inet hull", "nft flush map inet hull published4",
                             "nft delete chain inet hull crossing", "nft flush chain inet hull guard"}) {
    SCOPED_TRACE(damage);
    ASSERT_EQ(0, shell(world_.host(), damage));
    auto report = manager_.repair([](std::string_view) { return true; });
    ASSERT_TRUE(report.ok()) << report.error().message();
    EXPECT_TRUE(report->rules_restored);
    EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
    EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, web.v4(), 80, kNeverMs));
  }
  // The next attach notices by itself.
  ASSERT_EQ(0, shell(world_.host(), "nft flush ruleset"));
  const Container other = start(manager_, "other");
  EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
  // And so it does when the bridge was removed.
  ASSERT_EQ(0, shell(world_.host(), "ip link del hull0"));
  const Container third = start(manager_, "third");
  EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
}

// A container whose rules are kept by this process, as its monitor would.
Container start_kept(NetworkManager& manager, const std::string& id, std::initializer_list<const char*> specs,
                     UniqueFd* rules) {
  Container out;
  out.netns = new_netns();
  ReserveRequest request;
  request.workload_id = id;
  request.ports = ports(specs);
  request.has_keeper = true;
  auto reserved = manager.reserve(request);
  EXPECT_TRUE(reserved.ok()) << reserved.error().message();
  if (!reserved.ok()) return out;
  out.holders = std::move(reserved->holders);
  *rules = std::move(reserved->rules);
  auto attached = manager.attach(id, out.netns.get(), {::getpid(), rules->get()});
  EXPECT_TRUE(attached.ok()) << attached.error().message();
  if (attached.ok()) out.endpoint = attached->front();
  return out;
}

TEST_P(Traffic, NobodyElseFlushesRulesThatAreKept) {
  UniqueFd first, second;
  const Container web = start_kept(manager_, "web", {"8080:80"}, &first);
  const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  const auto stands = [&] {
    EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
    EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, web.v4(), 80, kNeverMs));
  };
  const std::string before = shell_output(world_.host(), "nft list table inet hull; nft list table bridge hull");
  // What Debian's nftables.service does on a reload, what iptables' restore does, and what an administrator does.
  for (const char* reload : {"nft flush ruleset", "printf 'flush ruleset\ntable inet filter {}\n' | nft -f -",
                             "iptables -F && iptables -t nat -F && iptables -X",
                             "printf '*nat\n:PREROUTING ACCEPT\nCOMMIT\n' | iptables-nft-restore"}) {
    SCOPED_TRACE(reload);
    ASSERT_EQ(0, shell(world_.host(), reload));
    EXPECT_EQ(before, shell_output(world_.host(), "nft list table inet hull; nft list table bridge hull"));
    stands();
  }
  for (const char* change : {"nft delete table inet hull", "nft flush table inet hull",
                             "nft flush map inet hull published4", "nft delete table bridge hull"}) {
    EXPECT_NE(0, shell(world_.host(), std::string(change) + " 2>/dev/null")) << change;
  }
  EXPECT_FALSE(manager_.repair([](std::string_view) { return true; })->rules_restored);
  // Any keeper's socket serves every command, and the last one holds the tables.
  NetworkManager another = world_.manager();
  Container more = start_kept(another, "more", {"8081:80"}, &second);
  more.holders.clear();
  ASSERT_TRUE(manager_.detach("more").ok());
  const Container again = start_kept(manager_, "again", {"8081:80"}, &second);
  first.reset();
  ASSERT_EQ(0, shell(world_.host(), "nft flush ruleset"));
  stands();
  ASSERT_TRUE(another.detach("again").ok());
  stands();
}

TEST_P(Traffic, RulesWhoseKeepersWereKilledAreTakenUpAgain) {
  UniqueFd rules;
  const Container web = start_kept(manager_, "web", {"8080:80"}, &rules);
  const UniqueFd server = serve(web.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  for (const char* meanwhile : {"true", "nft flush ruleset"}) {
    SCOPED_TRACE(meanwhile);
    rules.reset();
    ASSERT_EQ(0, shell(world_.host(), meanwhile));
    const std::string id = std::string("next-") + meanwhile[0];
    const Container next = start_kept(manager_, id, {}, &rules);
    EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
    ASSERT_EQ(0, shell(world_.host(), "nft flush ruleset"));
    EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080));
    EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, web.v4(), 80, kNeverMs));
  }
  // Nobody of ours keeps them, and nobody can be asked: changes go on, unowned.
  rules.reset();
  ASSERT_TRUE(manager_.detach("web").ok());
  EXPECT_FALSE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8080, kNeverMs));
}

}  // namespace
}  // namespace hull::net
