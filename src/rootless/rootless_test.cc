#include "rootless/rootless.h"

#include <gtest/gtest.h>

namespace hull::rootless {
namespace {

TEST(Ranges, OfAUserByNameAndNumber) {
  const auto ranges = parse_ranges("root:1:2\nsailor:100000:65536\n4242:300000:10\nsailor\n:1:2\n", "sailor", 4242);
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].start, 100000u);
  EXPECT_EQ(ranges[0].count, 65536u);
  EXPECT_EQ(ranges[1].start, 300000u);
}

TEST(Ranges, WhatMakesNoSenseIsLeftOut) {
  for (const char* bad : {"sailor:x:1\n", "sailor:1\n", "sailor:1:0\n", "sailor:0:5\n", "sailor:4294967290:100\n",
                          "sailor:-1:5\n", "sailors:1:5\n", "sailor:1:5:6x\n"}) {
    EXPECT_TRUE(parse_ranges(bad, "sailor", 4242).empty()) << bad;
  }
}

TEST(Keepers, RoundTrip) {
  Keeper keeper;
  keeper.inside_pid = 10;
  keeper.inside_start = 1000;
  keeper.outside_pid = 9;
  keeper.outside_start = 999;
  keeper.user_inode = 4026531837;
  keeper.mount_inode = 4026531838;
  keeper.network_inode = 4026531839;
  const auto back = parse_keeper(print_keeper(keeper));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(print_keeper(*back), print_keeper(keeper));
  EXPECT_FALSE(parse_keeper("1 2 3 4 5 6").ok());
  EXPECT_FALSE(parse_keeper("").ok());
}

}  // namespace
}  // namespace hull::rootless
