#include "net/names.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace hull::net {
namespace {

NameRecord sample() {
  NameRecord record;
  record.network_id = "net1";
  record.workload_id = "0123456789ab";
  record.network_name = "mynet";
  record.names = {"web", "0123456789ab", "www.Example"};
  record.addresses = {IpAddress::parse("10.1.0.2").value(), IpAddress::parse("fd00::2").value()};
  record.holder = {4711, 123456, 4026532001};
  record.forward = false;
  record.servers = {"192.0.2.1"};
  return record;
}

class NamesFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/hull-names-XXXXXX";
    dir_ = ::mkdtemp(path);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST(NameRecords, RoundTrip) {
  const auto text = print_name_record(sample());
  ASSERT_TRUE(text.ok());
  const auto back = parse_name_record("net1", "0123456789ab", *text);
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(*back, sample());
}

TEST(NameRecords, OfAMachine) {
  NameRecord record = sample();
  record.holder = {};
  record.gateways = {IpAddress::parse("10.1.0.1").value()};
  const auto text = print_name_record(record);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*parse_name_record("net1", "0123456789ab", *text), record);
}

TEST(NameRecords, RefusesWhatWouldBreakTheFile) {
  for (const char* bad : {"", "with blank", "with\nline", "\x7f", "\xc3\xa9"}) {
    NameRecord record = sample();
    record.names.emplace_back(bad);
    EXPECT_EQ(print_name_record(record).error().kind(), ErrorKind::kInvalid) << bad;
  }
  for (const char* bad : {"", "..", ".", "a/b", "a b"}) {
    NameRecord record = sample();
    record.network_id = bad;
    EXPECT_EQ(print_name_record(record).error().kind(), ErrorKind::kInvalid) << bad;
  }
  NameRecord record = sample();
  record.names.assign(kMostNames + 1, "x");
  EXPECT_FALSE(print_name_record(record).ok());
  record = sample();
  record.names.clear();
  EXPECT_FALSE(print_name_record(record).ok());
  record = sample();
  record.servers = {"dns.example"};
  EXPECT_FALSE(print_name_record(record).ok());
  record.servers = {"127.0.0.1"};
  EXPECT_EQ(print_name_record(record).error().kind(), ErrorKind::kUnsupported);
}

TEST(NameRecords, ParsingIsStrict) {
  for (const char* bad : {"", "network n\n", "network n\nname a\nunknown x\n", "network n\nname a\naddress 1.2.3\n",
                          "network n\nname a\nnamespace 1 2\n", "network n\nname a\nforward perhaps\n", "noblank"}) {
    const auto parsed = parse_name_record("n", "w", bad);
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::kCorrupt) << bad;
  }
}

TEST(NameRecords, NamespaceOfAProcess) {
  const auto own = namespace_of(::getpid());
  ASSERT_TRUE(own.ok());
  EXPECT_GT(own->inode, 0u);
  EXPECT_GT(own->start_time, 0u);
  EXPECT_EQ(namespace_of(0x3fffff).error().kind(), ErrorKind::kNotFound);
}

TEST_F(NamesFolder, AFailedAnnouncementLeavesNothing) {
  const DnsPlace place{dir_, dir_ + "/no-such-program"};
  const auto announced = announce_names(place, sample());
  ASSERT_FALSE(announced.ok());
  EXPECT_EQ(announced.error().kind(), ErrorKind::kUnavailable);
  EXPECT_TRUE(list_name_records(dir_)->empty());
  EXPECT_TRUE(withdraw_names(place, "net1", "0123456789ab").ok()) << "absent is success";
  EXPECT_TRUE(ensure_dns(place).ok()) << "nothing to serve";
}

TEST_F(NamesFolder, AProgramThatFailsIsQuoted) {
  const std::string program = dir_ + "/program";
  std::ofstream(program) << "#!/bin/sh\necho no such luck >&2\nexit 3\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  const auto announced = announce_names({dir_, program}, sample());
  ASSERT_FALSE(announced.ok());
  EXPECT_NE(announced.error().message().find("no such luck"), std::string::npos) << announced.error().message();
}

TEST(DnsResolvConf, ServersAndNdots) {
  EXPECT_EQ(make_dns_resolv_conf({"127.0.0.11"}, "nameserver 192.0.2.1\nsearch example.org\n", {}),
            "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n");
  EXPECT_EQ(make_dns_resolv_conf({"127.0.0.11"}, "options timeout:1 rotate\n", {}),
            "nameserver 127.0.0.11\noptions timeout:1 rotate ndots:0\n");
  EXPECT_EQ(make_dns_resolv_conf({"10.1.0.1"}, "", {{"192.0.2.9"}, {"."}, {"ndots:2"}}),
            "nameserver 10.1.0.1\noptions ndots:2\n");
}

}  // namespace
}  // namespace hull::net
