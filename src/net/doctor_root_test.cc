#include <gmock/gmock.h>

#include "net/forward_policy.h"
#include "net/test_world.h"

namespace hull::net {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)
using ::testing::HasSubstr;
using Status = Check::Status;

Check check(NetworkManager& manager, std::string_view name) {
  for (Check& each : manager.doctor()) {
    if (each.name == name) return each;
  }
  ADD_FAILURE() << "no check " << name;
  return {};
}

TEST(Doctor, AHealthyHost) {
  World world;
  NetworkManager manager = world.manager();
  for (const Check& each : manager.doctor()) {
    EXPECT_EQ(Status::kOk, each.status) << each.name << ": " << each.detail;
    EXPECT_TRUE(each.remedy.empty()) << each.name;
    EXPECT_FALSE(each.detail.empty()) << each.name;
  }
  EXPECT_EQ("", shell_output(world.host(), "nft list tables; ip -br link show type bridge"))
      << "the trial left something";
  const Container container = start(manager, "c");
  EXPECT_THAT(check(manager, "forwarding").detail, HasSubstr("Hull switched it on"));
  EXPECT_THAT(check(manager, "bridge ports").detail, HasSubstr("1 of 1023"));
}

TEST(Doctor, ForwardPoliciesOfOthers) {
  World world;
  NetworkManager manager = world.manager();
  ASSERT_EQ(0, shell(world.host(),
                     "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward "
                     "priority 0; policy drop; }'"));
  const Check policy = check(manager, "forward policy");
  EXPECT_EQ(Status::kWarning, policy.status);
  EXPECT_THAT(policy.detail, HasSubstr("ip filter FORWARD"));
  EXPECT_THAT(policy.remedy, HasSubstr("DOCKER-USER -i hull0"));
}

TEST(Doctor, LegacyForwardPolicy) {
  World world;
  EXPECT_FALSE(legacy_forward_drops(Family::kV4));
  if (shell(world.host(), "iptables-legacy -P FORWARD DROP 2>/dev/null") != 0) {
    GTEST_SKIP() << "no legacy iptables here";
  }
  EXPECT_TRUE(legacy_forward_drops(Family::kV4));
  ASSERT_EQ(0, shell(world.host(), "iptables-legacy -A FORWARD -j ACCEPT; iptables-legacy -P FORWARD ACCEPT"));
  EXPECT_FALSE(legacy_forward_drops(Family::kV4));
}

TEST(Doctor, WhatStandsInTheWay) {
  World world(true);
  NetworkManager manager = world.manager();
  const Container container = start(manager, "c");
  EXPECT_EQ(Status::kWarning, check(manager, "bridged frames").status);
  ASSERT_EQ(0, shell(world.host(), "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.default.disable_ipv6=1"));
  EXPECT_EQ(Status::kWarning, check(manager, "forwarding").status);
  EXPECT_EQ(Status::kWarning, check(manager, "IPv6").status);
  ASSERT_EQ(0, shell(world.host(), "ip route add 172.30.7.0/24 dev up0"));
  EXPECT_EQ(Status::kWarning, check(manager, "subnet").status);
}

}  // namespace
}  // namespace hull::net
