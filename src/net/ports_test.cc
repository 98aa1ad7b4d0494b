#include "net/ports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_format.h"

namespace hull::net {
namespace {

using ::testing::HasSubstr;

// "host_ip|first-last|container/proto" for each mapping, comma separated.
std::string told(std::string_view spec) {
  auto mappings = parse_port_spec(spec);
  if (!mappings.ok()) return "error: " + mappings.error().message();
  std::string out;
  for (const PortMapping& mapping : *mappings) {
    if (!out.empty()) out += ",";
    out += fmt::format("{}|{}-{}|{}/{}", mapping.host_ip ? mapping.host_ip->str() : "*", mapping.host_port,
                       mapping.host_port_last, mapping.container_port, to_string(mapping.protocol));
  }
  return out;
}

TEST(PortSpec, DockersForms) {
  EXPECT_EQ("*|0-0|80/tcp", told("80"));
  EXPECT_EQ("*|0-0|80/udp", told("80/udp"));
  EXPECT_EQ("*|0-0|80/sctp", told("80/SCTP"));
  EXPECT_EQ("*|0-0|80/tcp", told("80/"));
  EXPECT_EQ("*|8080-8080|80/tcp", told("8080:80"));
  EXPECT_EQ("*|0-0|80/tcp", told("0:80"));
  EXPECT_EQ("127.0.0.1|8080-8080|80/tcp", told("127.0.0.1:8080:80"));
  EXPECT_EQ("127.0.0.1|0-0|80/tcp", told("127.0.0.1::80"));
  EXPECT_EQ("::1|53-53|53/udp", told("[::1]:53:53/udp"));
  EXPECT_EQ("::1|53-53|53/udp", told("::1:53:53/udp"));
  EXPECT_EQ("::|0-0|80/tcp", told("[::]::80"));
  EXPECT_EQ("0.0.0.0|80-80|80/tcp", told("0.0.0.0:80:80"));
}

TEST(PortSpec, Ranges) {
  EXPECT_EQ("*|0-0|80/tcp,*|0-0|81/tcp", told("80-81"));
  EXPECT_EQ("*|8000-8000|80/tcp,*|8001-8001|81/tcp", told("8000-8001:80-81"));
  EXPECT_EQ("*|8000-8010|80/tcp", told("8000-8010:80"));
  EXPECT_EQ("*|8000-8000|80/tcp", told("8000-8000:80-80"));
  EXPECT_EQ("127.0.0.1|8000-8000|80/udp,127.0.0.1|8001-8001|81/udp", told("127.0.0.1:8000-8001:80-81/udp"));
  EXPECT_EQ(11u, parse_port_spec("127.0.0.1:8000-8010:80-90/tcp")->size());
  EXPECT_EQ(65535u, parse_port_spec("1-65535:1-65535")->size());
}

TEST(PortSpec, Errors) {
  EXPECT_THAT(told(""), HasSubstr("no port specified: <empty>"));
  EXPECT_THAT(told("8080:"), HasSubstr("no port specified: 8080:<empty>"));
  EXPECT_THAT(told("80/icmp"), HasSubstr("invalid proto: icmp"));
  EXPECT_THAT(told("x:80"), HasSubstr("invalid hostPort: x"));
  EXPECT_THAT(told("80:x"), HasSubstr("invalid containerPort: x"));
  EXPECT_THAT(told("80:65536"), HasSubstr("invalid containerPort: 65536"));
  EXPECT_THAT(told("70000:80"), HasSubstr("invalid hostPort: 70000"));
  EXPECT_THAT(told("80:0"), HasSubstr("invalid containerPort: 0"));
  EXPECT_THAT(told("80:90-80"), HasSubstr("invalid containerPort: 90-80"));
  EXPECT_THAT(told("1-3:80-81"), HasSubstr("invalid ranges specified for container and host Ports: 80-81 and 1-3"));
  EXPECT_THAT(told("0-3:80"), HasSubstr("can't start at 0"));
  EXPECT_THAT(told("localhost:80:80"), HasSubstr("invalid IP address: localhost"));
  EXPECT_THAT(told("[::1:80:80"), HasSubstr("invalid IP address: [::1"));
  EXPECT_THAT(told("300.1.1.1:80:80"), HasSubstr("invalid IP address: 300.1.1.1"));
  EXPECT_THAT(told("224.0.0.1:80:80"), HasSubstr("multicast"));
  EXPECT_THAT(told("-1:80"), HasSubstr("invalid hostPort"));
  EXPECT_THAT(told("+1:80"), HasSubstr("invalid hostPort"));
  EXPECT_THAT(told("80 :80"), HasSubstr("invalid hostPort"));
  EXPECT_THAT(told(std::string(100000, '1')), HasSubstr("longer than"));
}

TEST(PortSpec, Expose) {
  EXPECT_EQ(3u, parse_expose_spec("80-82/udp")->size());
  EXPECT_FALSE(parse_expose_spec("80:80").ok());
}

TEST(PublishedPort, Prints) {
  EXPECT_EQ("0.0.0.0:8080->80/tcp", (PublishedPort{IpAddress(), 8080, 80, Protocol::kTcp}.str()));
  EXPECT_EQ("[::]:53->53/udp", (PublishedPort{*IpAddress::parse("::"), 53, 53, Protocol::kUdp}.str()));
}

}  // namespace
}  // namespace hull::net
