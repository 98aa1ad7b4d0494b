#include "sys/netlink.h"

#include <gtest/gtest.h>
#include <linux/rtnetlink.h>

#include <array>
#include <map>

namespace hull::sys {
namespace {

TEST(Netlink, AttributesNestAndAreRead) {
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, NLM_F_CREATE, ifinfomsg{});
  EXPECT_EQ(0u, batch.nest_size());
  batch.put_string(IFLA_IFNAME, "abc");
  batch.open_nest(IFLA_LINKINFO);
  batch.put_be32(7, 0x01020304);
  batch.put_u8(8, 9);
  EXPECT_EQ(4u + 8u + 8u, batch.nest_size());
  batch.close_nest();
  batch.end();
  EXPECT_EQ(1u, batch.count());
  EXPECT_EQ(16u + 16u + 8u + 20u, batch.size_bytes());
  batch.clear();
  EXPECT_EQ(0u, batch.count());
}

TEST(Netlink, MalformedBytesAreRefused) {
  const auto nothing = [](uint16_t, Bytes) {};
  std::array<uint8_t, 8> short_length{3, 0, 1, 0};
  EXPECT_FALSE(for_each_attribute(short_length, nothing));
  std::array<uint8_t, 8> long_length{200, 0, 1, 0};
  EXPECT_FALSE(for_each_attribute(long_length, nothing));
  std::array<uint8_t, 2> stump{4, 0};
  EXPECT_FALSE(for_each_attribute(stump, nothing));
  EXPECT_TRUE(for_each_attribute({}, nothing));
  std::array<uint8_t, 16> message{};
  EXPECT_FALSE(for_each_message(message, [](const NetlinkMessage&) {}));
  message[0] = 17;
  EXPECT_FALSE(for_each_message(message, [](const NetlinkMessage&) {}));
  message[0] = 16;
  EXPECT_TRUE(for_each_message(message, [](const NetlinkMessage&) {}));
}

TEST(Netlink, LastAttributeMayLackItsPadding) {
  std::array<uint8_t, 5> bytes{5, 0, 1, 0, 42};
  uint8_t seen = 0;
  EXPECT_TRUE(for_each_attribute(bytes, [&](uint16_t, Bytes value) { seen = attribute_as<uint8_t>(value); }));
  EXPECT_EQ(42, seen);
}

TEST(Netlink, ShortValuesReadAsZero) {
  std::array<uint8_t, 2> two{1, 2};
  EXPECT_EQ(0u, attribute_as<uint32_t>(two));
  EXPECT_EQ(0u, attribute_be32(two));
  EXPECT_EQ("", attribute_string({}));
}

TEST(Netlink, AsksTheKernelForItsLoopback) {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  ASSERT_TRUE(socket.ok());
  NetlinkBatch batch;
  ifinfomsg header{};
  header.ifi_index = 1;
  batch.begin(RTM_GETLINK, 0, header);
  batch.end();
  header.ifi_index = 0x7ffffff0;
  batch.begin(RTM_GETLINK, 0, header);
  batch.end();
  std::map<uint16_t, int> seen;
  const auto failures = socket->exchange(batch, [&](const NetlinkMessage& message) { ++seen[message.type]; });
  ASSERT_TRUE(failures.ok());
  EXPECT_EQ(1, seen[RTM_NEWLINK]);
  ASSERT_EQ(1u, failures->size());
  EXPECT_EQ(1u, failures->front().index);
  EXPECT_EQ(ENODEV, failures->front().error);
}

TEST(Netlink, DumpsToTheEnd) {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  ASSERT_TRUE(socket.ok());
  NetlinkBatch batch;
  batch.begin(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  batch.end();
  int links = 0;
  const auto failures = socket->exchange(batch, [&](const NetlinkMessage&) { ++links; });
  ASSERT_TRUE(failures.ok());
  EXPECT_TRUE(failures->empty());
  EXPECT_GE(links, 1);
}

TEST(Netlink, TooLongAttributesAreAFault) {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  ASSERT_TRUE(socket.ok());
  const std::string big(70000, 'x');
  NetlinkBatch batch;
  batch.begin(RTM_NEWLINK, 0, ifinfomsg{});
  batch.put(1, big.data(), big.size());
  batch.end();
  EXPECT_FALSE(socket->exchange(batch).ok());
}

}  // namespace
}  // namespace hull::sys
