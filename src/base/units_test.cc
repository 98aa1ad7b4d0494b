#include "base/units.h"

#include <gtest/gtest.h>

namespace hull {
namespace {

TEST(Size, ReadsDockersForms) {
  EXPECT_EQ(*parse_size("512"), 512);
  EXPECT_EQ(*parse_size("64k"), 65536);
  EXPECT_EQ(*parse_size("1.5g"), 1610612736);
  EXPECT_EQ(*parse_size("10MB"), 10485760);
  EXPECT_EQ(*parse_size("1GiB"), 1073741824);
  for (const char* bad : {"", "m", "-1", "1x", "1bb", "12 34", "1e9", "99999999p", "1.2.3"}) {
    EXPECT_FALSE(parse_size(bad).ok()) << bad;
  }
}

TEST(Size, PrintsDockersForms) {
  EXPECT_EQ(format_size(0), "0B");
  EXPECT_EQ(format_size(223400000), "223.4MB");
  EXPECT_EQ(format_size_binary(1610612736), "1.5GiB");
}

TEST(Duration, ReadsGosForm) {
  using namespace std::chrono_literals;
  EXPECT_EQ(*parse_duration("300ms"), 300ms);
  EXPECT_EQ(*parse_duration("1h2m3.5s"), 1h + 2min + 3500ms);
  EXPECT_EQ(*parse_duration("0"), 0s);
  EXPECT_EQ(*parse_duration("-5s"), -5s);
  for (const char* bad : {"", "5", "s", "1x", "-", "1h2", "9999999999h"}) EXPECT_FALSE(parse_duration(bad).ok()) << bad;
}

TEST(Int, IsStrict) {
  EXPECT_EQ(*parse_int("-7", -10, 10), -7);
  for (const char* bad : {"", "+7", " 7", "7 ", "0x7", "11", "99999999999999999999"}) {
    EXPECT_FALSE(parse_int(bad, -10, 10).ok()) << bad;
  }
}

TEST(Rfc3339, GoesRoundTrip) {
  const auto when = parse_rfc3339("2026-11-23T15:13:59.123456789+01:00");
  ASSERT_TRUE(when.ok());
  EXPECT_EQ(format_rfc3339(*when), "2026-11-23T14:13:59.123456789Z");
  for (const char* bad : {"", "2026-11-23", "2026-13-23T14:13:59Z", "2026-11-23T14:13:59", "2026-11-23T14:13:59Zx"}) {
    EXPECT_FALSE(parse_rfc3339(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace hull
