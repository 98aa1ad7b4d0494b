#include "net/address.h"

#include <gtest/gtest.h>

namespace hull::net {
namespace {

TEST(IpAddress, ReadsAndPrints) {
  for (const char* text : {"0.0.0.0", "172.30.0.1", "255.255.255.255", "::", "::1", "fd00::2", "2001:db8::ff:0:1"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_EQ(text, address->str());
  }
  EXPECT_EQ("fd00::1", IpAddress::parse("FD00:0:0::0001")->str());
}

TEST(IpAddress, RefusesWhatIsNone) {
  for (const char* text : {"", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.4 ", " ::1",
                           ":::", "fe80::1%eth0", "[::1]", "1::2::3", "12345::", "localhost"}) {
    EXPECT_FALSE(IpAddress::parse(text).ok()) << text;
  }
  EXPECT_FALSE(IpAddress::parse(std::string("127.0.0.1\0x", 11)).ok());
  EXPECT_FALSE(IpAddress::parse(std::string(100000, ':')).ok());
}

TEST(IpAddress, KnowsItsKind) {
  EXPECT_TRUE(IpAddress::parse("127.3.2.1")->is_loopback());
  EXPECT_TRUE(IpAddress::parse("::1")->is_loopback());
  EXPECT_TRUE(IpAddress::parse("::ffff:127.0.0.1")->is_loopback());
  EXPECT_FALSE(IpAddress::parse("128.0.0.1")->is_loopback());
  EXPECT_FALSE(IpAddress::parse("::")->is_loopback());
  EXPECT_TRUE(IpAddress::parse("::")->is_unspecified());
  EXPECT_TRUE(IpAddress::parse("0.0.0.0")->is_unspecified());
  EXPECT_TRUE(IpAddress::parse("224.0.0.1")->is_multicast());
  EXPECT_TRUE(IpAddress::parse("ff02::1")->is_multicast());
  EXPECT_FALSE(IpAddress::parse("fe80::1")->is_multicast());
}

TEST(IpAddress, Counts) {
  EXPECT_EQ("172.30.1.0", IpAddress::parse("172.30.0.255")->plus(1).str());
  EXPECT_EQ("172.30.0.254", IpAddress::parse("172.30.0.255")->plus(~uint64_t{0}).str());
  EXPECT_EQ("fd00::1:0", IpAddress::parse("fd00::ffff")->plus(1).str());
  EXPECT_LT(*IpAddress::parse("10.0.0.9"), *IpAddress::parse("10.0.0.10"));
}

TEST(Subnet, ReadsAndRefuses) {
  EXPECT_EQ("172.30.0.0/16", Subnet::parse("172.30.0.0/16")->str());
  EXPECT_EQ("fd00::/64", Subnet::parse("fd00::/64")->str());
  EXPECT_EQ("0.0.0.0/0", Subnet::parse("0.0.0.0/0")->str());
  for (const char* text :
       {"172.30.0.0", "172.30.0.0/", "172.30.0.0/33", "172.30.0.0/-1", "172.30.0.0/1x", "fd00::/129"}) {
    EXPECT_FALSE(Subnet::parse(text).ok()) << text;
  }
  const auto host_bits = Subnet::parse("172.30.0.1/16");
  ASSERT_FALSE(host_bits.ok());
  EXPECT_NE(std::string::npos, host_bits.error().message().find("172.30.0.0/16"));
}

TEST(Subnet, Arithmetic) {
  const Subnet subnet = *Subnet::parse("172.30.0.0/20");
  EXPECT_EQ(4096u, subnet.size());
  EXPECT_EQ("172.30.15.255", subnet.last().str());
  EXPECT_TRUE(subnet.contains(*IpAddress::parse("172.30.15.1")));
  EXPECT_FALSE(subnet.contains(*IpAddress::parse("172.30.16.1")));
  EXPECT_FALSE(subnet.contains(*IpAddress::parse("fd00::1")));
  EXPECT_EQ(258u, subnet.offset_of(*IpAddress::parse("172.30.1.2")));
  EXPECT_TRUE(subnet.overlaps(*Subnet::parse("172.16.0.0/12")));
  EXPECT_TRUE(subnet.overlaps(*Subnet::parse("172.30.3.0/24")));
  EXPECT_FALSE(subnet.overlaps(*Subnet::parse("172.31.0.0/16")));
  EXPECT_FALSE(subnet.overlaps(*Subnet::parse("fd00::/8")));
  EXPECT_EQ("fd00::ffff:ffff:ffff:ffff", Subnet::parse("fd00::/64")->last().str());
  EXPECT_EQ(uint64_t{1} << 63, Subnet::parse("fd00::/8")->size());
}

TEST(MacAddress, ReadsAndRefuses) {
  EXPECT_EQ("02:42:ac:1e:00:02", MacAddress::parse("02:42:AC:1e:00:02")->str());
  EXPECT_EQ("02:42:ac:1e:00:02", MacAddress::parse("02-42-ac-1e-00-02")->str());
  for (const char* text : {"", "02:42:ac:1e:00", "02:42:ac:1e:00:02:", "02:42:ac:1e:00:0g", "02:42-ac:1e:00:02",
                           "01:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "0242.ac1e.0002"}) {
    EXPECT_FALSE(MacAddress::parse(text).ok()) << text;
  }
}

TEST(MacAddress, IsDerivedFromAnAddress) {
  EXPECT_EQ("02:42:ac:1e:00:02", MacAddress::derived_from(*IpAddress::parse("172.30.0.2")).str());
  EXPECT_TRUE(MacAddress::parse(MacAddress::derived_from(*IpAddress::parse("fd00::2")).str()).ok());
}

}  // namespace
}  // namespace hull::net
