// Small parts that read texts: processes, terminals, addresses.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>

#include "guest/network.h"
#include "guest/process_list.h"

namespace hull::guest {
namespace {

constexpr const char* kStat =
    "1234 (a (b) c) S 1 1234 1234 34816 1234 4194560 100 0 0 0 7 5 0 0 20 -5 3 0 777 123456789 321 "
    "18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

TEST(ProcessList, ReadsAStatLine) {
  StatLine line;
  ASSERT_TRUE(parse_stat(kStat, line));
  EXPECT_EQ(line.name, "a (b) c");
  EXPECT_EQ(line.state, 'S');
  EXPECT_EQ(line.parent, 1u);
  EXPECT_EQ(terminal_name(line.terminal), "pts/0");
  EXPECT_EQ(line.cpu_ticks, 12u);
  EXPECT_EQ(line.nice, -5);
  EXPECT_EQ(line.threads, 3u);
  EXPECT_EQ(line.start_ticks, 777u);
  EXPECT_EQ(line.virtual_bytes, 123456789u);
  EXPECT_EQ(line.rss_pages, 321u);
  for (const char* bad : {"", "1", "1 (x", "1 (x)", "1 )x(", "1 (x) S 1 2", "1 (x)  S 1 2 3"}) {
    EXPECT_FALSE(parse_stat(bad, line)) << bad;
  }
}

TEST(ProcessList, NamesTerminals) {
  EXPECT_EQ(terminal_name(0), "?");
  EXPECT_EQ(terminal_name(136 << 8 | 7), "pts/7");
  EXPECT_EQ(terminal_name(137 << 8 | 1), "pts/257");
  EXPECT_EQ(terminal_name(4 << 8 | 1), "tty1");
  EXPECT_EQ(terminal_name(4 << 8 | 64), "ttyS0");
  EXPECT_EQ(terminal_name(5 << 8 | 1), "console");
}

TEST(ProcessList, ShowsThisProcess) {
  const auto listed =
      list_processes({static_cast<int>(::getpid()), 1 << 30}, "me:x:" + std::to_string(::getuid()) + ":0::/:\n");
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->processes_size(), 1);
  const proto::Process& self = listed->processes(0);
  EXPECT_EQ(self.user(), "me");
  EXPECT_EQ(self.parent(), static_cast<uint32_t>(::getppid()));
  EXPECT_EQ(self.name(), "guest_test");
  EXPECT_NE(self.arguments(0).find("guest_test"), std::string::npos);
  EXPECT_GT(self.rss_kib(), 100u);
  EXPECT_GT(listed->memory_total_kib(), 1000u);
  const int64_t now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_LE(self.started_ns(), now + 1'000'000'000);
  EXPECT_GT(self.started_ns(), now - int64_t{3600} * 1'000'000'000);
}

TEST(Network, ReadsMacAddresses) {
  const auto mac = parse_mac("02:42:aC:11:00:fF");
  ASSERT_TRUE(mac);
  EXPECT_EQ((*mac)[2], 0xAC);
  EXPECT_EQ((*mac)[5], 0xFF);
  for (const char* bad : {"", "02:42:ac:11:00", "02:42:ac:11:00:0g", "02-42-ac-11-00-02", "02:42:ac:11:00:022"}) {
    EXPECT_FALSE(parse_mac(bad)) << bad;
  }
}

}  // namespace
}  // namespace hull::guest
