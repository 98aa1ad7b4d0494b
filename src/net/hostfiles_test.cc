#include "net/hostfiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kHost =
    "# generated\n; also a comment\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    "nameserver fe80::1%eth0\nnameserver junk\nsearch old.example\nsearch corp.example lab.example\n"
    "options ndots:2\noptions edns0 trust-ad\nsortlist 10.0.0.0\n";

TEST(ResolvConf, Reads) {
  const ResolvConf conf = parse_resolv_conf(kHost);
  EXPECT_THAT(conf.nameservers, ElementsAre("127.0.0.53", "192.0.2.53", "2001:db8::53", "fe80::1%eth0"));
  EXPECT_THAT(conf.search, ElementsAre("corp.example", "lab.example"));
  EXPECT_THAT(conf.options, ElementsAre("ndots:2", "edns0", "trust-ad"));
  EXPECT_THAT(conf.other, ElementsAre("sortlist 10.0.0.0"));
}

TEST(ResolvConf, ReadsOddLines) {
  const ResolvConf conf = parse_resolv_conf(
      "  nameserver 192.0.2.1\r\nnameserver\t192.0.2.2 trailing\nnameserver\nsearch\ndomain a.b\n\n\x01\x02 "
      "binary\nnameserver 192.0.2.3");
  EXPECT_THAT(conf.nameservers, ElementsAre("192.0.2.1", "192.0.2.2", "192.0.2.3"));
  EXPECT_THAT(conf.search, ElementsAre("a.b"));
  EXPECT_TRUE(conf.other.empty());
}

TEST(ResolvConf, OwnNetworkDropsWhatCannotBeReached) {
  EXPECT_EQ(
      "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch corp.example lab.example\noptions ndots:2 edns0 "
      "trust-ad\n"
      "sortlist 10.0.0.0\n",
      make_resolv_conf(kHost, {}, ResolvFor::kOwnNetwork, true));
  EXPECT_THAT(make_resolv_conf(kHost, {}, ResolvFor::kOwnNetwork, false), ::testing::Not(HasSubstr("2001:db8::53")));
  EXPECT_THAT(make_resolv_conf(kHost, {}, ResolvFor::kHostNetwork, true), HasSubstr("nameserver 127.0.0.53\n"));
}

TEST(ResolvConf, FallsBackWhenNothingIsLeft) {
  EXPECT_EQ("nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
            make_resolv_conf("nameserver 127.0.0.1\nnameserver ::1\n", {}, ResolvFor::kOwnNetwork, false));
  EXPECT_EQ(
      "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n",
      make_resolv_conf("", {}, ResolvFor::kOwnNetwork, true));
}

TEST(ResolvConf, FlagsWin) {
  const DnsFlags flags{{"127.0.0.1", "9.9.9.9"}, {"x.example"}, {"timeout:1"}};
  EXPECT_EQ("nameserver 127.0.0.1\nnameserver 9.9.9.9\nsearch x.example\noptions timeout:1\n",
            make_resolv_conf("nameserver 192.0.2.1\nsearch a\noptions b\n", flags, ResolvFor::kOwnNetwork, true));
  EXPECT_EQ("nameserver 192.0.2.1\n",
            make_resolv_conf("nameserver 192.0.2.1\nsearch a\n", {{}, {"."}, {}}, ResolvFor::kOwnNetwork, true));
}

TEST(ResolvConf, FlagsAreChecked) {
  EXPECT_TRUE(validate_dns_flags({{"1.1.1.1", "::1"}, {"a.b", "."}, {"ndots:1"}}).ok());
  EXPECT_FALSE(validate_dns_flags({{"one.one.one.one"}, {}, {}}).ok());
  EXPECT_FALSE(validate_dns_flags({{}, {"a b"}, {}}).ok());
  EXPECT_FALSE(validate_dns_flags({{}, {}, {"a\nnameserver 6.6.6.6"}}).ok());
}

TEST(ResolvConf, FindsTheServersBehindSystemdResolved) {
  EXPECT_EQ("/run/systemd/resolve/resolv.conf", resolv_conf_path("nameserver 127.0.0.53\noptions edns0\n"));
  EXPECT_EQ("/etc/resolv.conf", resolv_conf_path("nameserver 127.0.0.53\nnameserver 192.0.2.1\n"));
  EXPECT_EQ("/etc/resolv.conf", resolv_conf_path("nameserver 192.0.2.1\n"));
}

TEST(Hosts, ForAnEndpoint) {
  HostsRequest request;
  request.hostname = "web";
  request.addresses = {*IpAddress::parse("172.30.0.2"), *IpAddress::parse("fd00::2")};
  request.extra = {{"192.0.2.1", "db"}, {"host-gateway", "host.docker.internal"}};
  request.host_gateway = {*IpAddress::parse("172.30.0.1")};
  EXPECT_EQ(
      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n192.0.2.1\tdb\n172.30.0.1\thost.docker.internal\n"
      "172.30.0.2\tweb\nfd00::2\tweb\n",
      *make_hosts(request));
  request.domainname = "example.org";
  request.ipv6 = false;
  EXPECT_THAT(*make_hosts(request), HasSubstr("172.30.0.2\tweb.example.org web\n"));
  request.host_gateway.clear();
  const auto refused = make_hosts(request);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("host-gateway"));
}

TEST(Hosts, AddHost) {
  EXPECT_EQ("10.0.0.1", parse_add_host("db:10.0.0.1")->address);
  EXPECT_EQ("db", parse_add_host("db=10.0.0.1")->name);
  EXPECT_EQ("fd00::1", parse_add_host("db:fd00::1")->address);
  EXPECT_EQ("fd00::1", parse_add_host("db:[fd00::1]")->address);
  EXPECT_EQ("host-gateway", parse_add_host("h:host-gateway")->address);
  for (const char* text : {"", "db", "db:", ":10.0.0.1", "db:10.0.0", "a b:10.0.0.1", "db:host", "x\ny:10.0.0.1"}) {
    EXPECT_FALSE(parse_add_host(text).ok()) << text;
  }
}

TEST(Hostname, IsChecked) {
  EXPECT_TRUE(validate_hostname("web-1.example").ok());
  EXPECT_TRUE(validate_hostname("a_b").ok());
  for (const char* text : {"", "-a", "a-", ".a", "a.", "a b", "a\n"})
    EXPECT_FALSE(validate_hostname(text).ok()) << text;
  EXPECT_FALSE(validate_hostname(std::string(65, 'a')).ok());
  EXPECT_EQ("web\n", make_hostname("web"));
}

}  // namespace
}  // namespace hull::net
