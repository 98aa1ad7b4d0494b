#include "net/definitions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "net/records.h"

namespace hull::net {
namespace {

using ::testing::HasSubstr;

class Stored : public ::testing::Test {
 protected:
  Stored() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hull-net-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Stored() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

Network example(const std::string& name, char digit) {
  Network out;
  out.name = name;
  out.id = std::string(64, digit);
  out.created_ns = 1795442400000000000;
  out.internal = true;
  out.bridge_device = "br-" + name;
  out.subnet4 = *Subnet::parse("10.1.0.0/16");
  out.gateway4 = *IpAddress::parse("10.1.0.254");
  out.range4 = *Subnet::parse("10.1.7.0/24");
  out.subnet6 = *Subnet::parse("fd00:7::/64");
  out.gateway6 = *IpAddress::parse("fd00:7::1");
  out.taken = {{"nas", *IpAddress::parse("10.1.7.3")}};
  out.options = {{"com.docker.network.driver.mtu", "1400"}, {"com.docker.network.bridge.enable_icc", "0"}};
  out.labels = {{"a", "b"}, {"empty", ""}};
  return out;
}

TEST_F(Stored, DefinitionsComeBackWhole) {
  const std::string path = folder_ + "/networks.db";
  EXPECT_FALSE(Definitions::exist(path));
  {
    auto store = Definitions::open(path);
    ASSERT_TRUE(store.ok()) << store.error().message();
    ASSERT_TRUE(store->add(example("one", 'a')).ok());
    ASSERT_TRUE(store->add(example("two", 'b')).ok());
    EXPECT_EQ(ErrorKind::kExists, store->add(example("two", 'c')).error().kind());
  }
  EXPECT_TRUE(Definitions::exist(path));
  auto store = Definitions::open(path);
  const Network read = **store->find("one");
  const Network wrote = example("one", 'a');
  EXPECT_EQ(wrote.id, read.id);
  EXPECT_EQ(wrote.created_ns, read.created_ns);
  EXPECT_TRUE(read.internal);
  EXPECT_EQ(wrote.subnet4, read.subnet4);
  EXPECT_EQ(wrote.gateway4, read.gateway4);
  EXPECT_EQ(wrote.range4, read.range4);
  EXPECT_EQ(wrote.subnet6, read.subnet6);
  EXPECT_EQ(wrote.gateway6, read.gateway6);
  EXPECT_EQ(wrote.taken, read.taken);
  EXPECT_EQ(wrote.options, read.options);
  EXPECT_EQ(wrote.labels, read.labels);
  EXPECT_EQ(1400u, read.mtu) << "what the options say";
  EXPECT_FALSE(read.between);
  EXPECT_EQ(2u, store->list()->size());
  EXPECT_EQ("two", (*store->find("bb"))->name);
  EXPECT_FALSE(store->find("zz")->has_value());
  EXPECT_FALSE(store->find("%")->has_value());
  ASSERT_TRUE(store->remove(wrote.id).ok());
  EXPECT_FALSE(store->find("one")->has_value());
}

TEST_F(Stored, APrefixOfTwoIsAmbiguous) {
  auto store = Definitions::open(folder_ + "/networks.db");
  Network one = example("one", 'a');
  Network two = example("two", 'a');
  two.id.back() = 'b';
  ASSERT_TRUE(store->add(one).ok() && store->add(two).ok());
  EXPECT_EQ(ErrorKind::kConflict, store->find("aa").error().kind());
  EXPECT_EQ("two", (*store->find(two.id))->name);
}

TEST_F(Stored, ANewerFormIsRefused) {
  const std::string path = folder_ + "/networks.db";
  {
    auto database = db::Database::open(path, {.subject = "test"});
    ASSERT_TRUE((*database)->execute("PRAGMA user_version=99; CREATE TABLE x(y);").ok());
  }
  EXPECT_THAT(Definitions::open(path).error().message(), HasSubstr("use a newer Hull"));
}

TEST_F(Stored, RecordsOfAnEarlierHullAreTakenOver) {
  const std::string path = folder_ + "/records.db";
  {
    auto database = db::Database::open(path, {.subject = "test"});
    const auto made = (*database)->execute(
        "CREATE TABLE number(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE boot(id TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO boot VALUES('now');"
        "CREATE TABLE endpoint(workload TEXT PRIMARY KEY, network TEXT NOT NULL, interface TEXT NOT NULL,"
        " host_interface TEXT NOT NULL, mac BLOB NOT NULL, v4 BLOB NOT NULL, v6 BLOB, attached INTEGER NOT NULL)"
        " WITHOUT ROWID;"
        "CREATE UNIQUE INDEX endpoint_v4 ON endpoint(network, v4);"
        "CREATE UNIQUE INDEX endpoint_v6 ON endpoint(network, v6);"
        "CREATE UNIQUE INDEX endpoint_mac ON endpoint(network, mac);"
        "CREATE TABLE port(protocol INTEGER NOT NULL, host_port INTEGER NOT NULL, host_ip BLOB NOT NULL,"
        " container_port INTEGER NOT NULL, workload TEXT NOT NULL, PRIMARY KEY(protocol, host_port, host_ip)) WITHOUT "
        "ROWID;"
        "INSERT INTO endpoint VALUES('web', 'bridge', 'eth0', 'hv1', X'0242AC1E0002', X'AC1E0002', NULL, 1);"
        "INSERT INTO port VALUES(6, 8080, X'00000000', 80, 'web');");
    ASSERT_TRUE(made.ok()) << made.error().message();
  }
  auto records = Records::open(path, "now");
  ASSERT_TRUE(records.ok()) << records.error().message();
  const auto found = *records->find("web");
  ASSERT_EQ(1u, found.size());
  EXPECT_EQ(default_network_id("bridge"), found[0].network_id);
  EXPECT_EQ("172.30.0.2", found[0].ipv4.str());
  EXPECT_TRUE(found[0].attached);
  EXPECT_TRUE(found[0].gateway);
  ASSERT_EQ(1u, found[0].ports.size());
  EXPECT_EQ(8080, found[0].ports[0].host_port);
  EXPECT_TRUE(Records::open(path, "after a boot")->find("web")->empty());
}

TEST(Options, OfEachDriver) {
  const auto says = [](Driver driver, const std::string& key, const std::string& value) {
    Network network;
    network.driver = driver;
    network.options = {{key, value}};
    const auto applied = apply_options(network);
    return applied.ok() ? std::string() : applied.error().message();
  };
  EXPECT_EQ("", says(Driver::kBridge, "com.docker.network.bridge.enable_icc", "False"));
  EXPECT_THAT(says(Driver::kBridge, "com.docker.network.bridge.enable_icc", "no"), HasSubstr("true or false"));
  EXPECT_THAT(says(Driver::kBridge, "parent", "eth0"), HasSubstr("the driver bridge has no such option"));
  EXPECT_THAT(says(Driver::kBridge, "com.docker.network.driver.mtu", "70000"), HasSubstr("68 to 65535"));
  EXPECT_THAT(says(Driver::kBridge, "com.docker.network.bridge.host_binding_ipv4", "::1"), HasSubstr("IPv4"));
  EXPECT_THAT(says(Driver::kBridge, "com.docker.network.bridge.gateway_mode_ipv4", "routed"), HasSubstr("nat"));
  EXPECT_EQ("", says(Driver::kBridge, "com.docker.network.bridge.gateway_mode_ipv4", "nat"));
  EXPECT_EQ("", says(Driver::kMacvlan, "macvlan_mode", "vepa"));
  EXPECT_THAT(says(Driver::kMacvlan, "macvlan_mode", "l2"), HasSubstr("one of bridge, private, vepa, passthru"));
  EXPECT_EQ("", says(Driver::kIpvlan, "ipvlan_mode", "l3s"));
  EXPECT_THAT(says(Driver::kIpvlan, "macvlan_mode", "bridge"), HasSubstr("the driver ipvlan has no such option"));
}

}  // namespace
}  // namespace hull::net
