#include "net/dns/names_table.h"

#include <gtest/gtest.h>

#include "net/dns/cache.h"
#include "net/dns/forwarder.h"

namespace hull::net::dns {
namespace {

NameRecord record(std::string network, std::string workload, std::vector<std::string> names, const char* address) {
  NameRecord out;
  out.network_name = network + "-name";
  out.network_id = std::move(network);
  out.workload_id = std::move(workload);
  out.names = std::move(names);
  out.addresses = {IpAddress::parse(address).value()};
  return out;
}
std::string wire(std::string_view text) { return name_from_text(text).value(); }

TEST(NamesTable, EachWorkloadSeesItsNetworksOnly) {
  NamesTable table;
  table.put(record("n1", "w1", {"web", "www"}, "10.1.0.2"));
  table.put(record("n1", "w2", {"db"}, "10.1.0.3"));
  table.put(record("n2", "w3", {"secret"}, "10.2.0.2"));
  table.put(record("n2", "w2", {"db2"}, "10.2.0.3"));
  EXPECT_EQ(table.addresses("w1", wire("DB"), kTypeA)->size(), 1u);
  EXPECT_EQ(table.addresses("w1", wire("db.n1-name"), kTypeA)->size(), 1u);
  EXPECT_FALSE(table.addresses("w1", wire("secret"), kTypeA).has_value());
  EXPECT_FALSE(table.addresses("w1", wire("db2.n2-name"), kTypeA).has_value());
  EXPECT_TRUE(table.addresses("w2", wire("secret"), kTypeA).has_value());
  EXPECT_TRUE(table.addresses("w1", wire("db"), kTypeAaaa)->empty()) << "known, of another family";
  EXPECT_TRUE(table.addresses("w1", wire("db"), 15)->empty()) << "known, of another type";
  EXPECT_FALSE(table.addresses("stranger", wire("db"), kTypeA).has_value());
  EXPECT_EQ(table.pointer("w1", IpAddress::parse("10.1.0.3").value()), "db.n1-name");
  EXPECT_FALSE(table.pointer("w1", IpAddress::parse("10.2.0.2").value()).has_value());
  EXPECT_EQ(table.workload_at("n2", IpAddress::parse("10.2.0.2").value()), "w3");
  EXPECT_FALSE(table.workload_at("n1", IpAddress::parse("10.2.0.2").value()).has_value());
}

TEST(NamesTable, AnAliasOfSeveralGivesAll) {
  NamesTable table;
  table.put(record("n", "w1", {"one", "service"}, "10.1.0.2"));
  table.put(record("n", "w2", {"two", "service", "Service"}, "10.1.0.3"));
  EXPECT_EQ(table.addresses("w1", wire("service"), kTypeA)->size(), 2u);
  table.remove("n", "w2");
  EXPECT_EQ(table.addresses("w1", wire("service"), kTypeA)->size(), 1u);
  EXPECT_FALSE(table.addresses("w1", wire("two"), kTypeA).has_value());
  table.put(record("n", "w1", {"renamed"}, "10.1.0.9"));
  EXPECT_FALSE(table.addresses("w1", wire("service"), kTypeA).has_value()) << "replaced as a whole";
  EXPECT_FALSE(table.pointer("w1", IpAddress::parse("10.1.0.2").value()).has_value());
}

TEST(NamesTable, InternalNetworksAskNobody) {
  NamesTable table;
  NameRecord inside = record("n1", "w", {"a"}, "10.1.0.2");
  inside.forward = false;
  table.put(inside);
  EXPECT_FALSE(table.forwarding("w").allowed);
  NameRecord outside = record("n2", "w", {"a"}, "10.2.0.2");
  outside.servers = {"192.0.2.1"};
  table.put(outside);
  EXPECT_TRUE(table.forwarding("w").allowed);
  EXPECT_EQ(table.forwarding("w").servers, outside.servers);
  EXPECT_FALSE(table.forwarding("stranger").allowed);
}

std::shared_ptr<CachedAnswer> answer_of(uint32_t ttl, size_t size) {
  auto out = std::make_shared<CachedAnswer>();
  out->message.resize(size);
  out->answer.answers = 1;
  out->answer.lowest_ttl = ttl;
  return out;
}

TEST(Cache, TimeAndBounds) {
  Cache cache(4, 8192);
  cache.put("a", answer_of(10, 100), 0);
  EXPECT_EQ(cache.get("a", 9'999)->age_seconds, 9u);
  EXPECT_FALSE(cache.get("a", 10'000).has_value());
  EXPECT_EQ(cache.entries(), 0u);
  cache.put("zero", answer_of(0, 100), 0);
  EXPECT_EQ(cache.entries(), 0u) << "an answer of no time is not kept";
  for (int i = 0; i < 10; ++i) cache.put("k" + std::to_string(i), answer_of(10, 100), 0);
  EXPECT_EQ(cache.entries(), 4u);
  EXPECT_TRUE(cache.get("k6", 0).has_value());
  cache.put("k10", answer_of(10, 100), 0);
  EXPECT_TRUE(cache.get("k6", 0).has_value()) << "used lately";
  EXPECT_FALSE(cache.get("k7", 0).has_value());
  for (int i = 0; i < 10; ++i) cache.put("b" + std::to_string(i), answer_of(10, 1500), 0);
  EXPECT_LE(cache.bytes(), 8192u);
  cache.put("huge", answer_of(10, 4000), 0);
  EXPECT_FALSE(cache.get("huge", 0).has_value());
  cache.clear();
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(Cache, Lifetimes) {
  Answer answer;
  answer.answers = 1;
  answer.lowest_ttl = 1'000'000;
  EXPECT_EQ(Cache::lifetime(answer), 86'400u);
  answer.rcode = 2;
  EXPECT_EQ(Cache::lifetime(answer), 0u) << "a failure";
  answer.rcode = 3;
  answer.answers = 0;
  EXPECT_EQ(Cache::lifetime(answer), 0u) << "negative without a SOA";
  answer.negative_ttl = 10'000;
  EXPECT_EQ(Cache::lifetime(answer), 300u);
}

TEST(Servers, Addresses) {
  EXPECT_TRUE(server_address("192.0.2.1").has_value());
  EXPECT_TRUE(server_address("fe80::1%2").has_value());
  for (const char* bad : {"", "0.0.0.0", "::", "192.0.2.1%1", "fe80::1%eth0", "ff02::1", "name"}) {
    EXPECT_FALSE(server_address(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace hull::net::dns
