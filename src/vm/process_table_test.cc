#include "vm/process_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::vm {
namespace {

using testing::HasSubstr;

guest::proto::ProcessesResponse two() {
  guest::proto::ProcessesResponse out;
  out.set_memory_total_kib(1000);
  auto* first = out.add_processes();
  first->set_pid(1);
  first->set_user("root");
  first->set_state("S");
  first->set_terminal("?");
  first->set_rss_kib(100);
  first->set_cpu_time_ms(3'723'000);
  first->set_name("sh");
  for (const char* argument : {"sh", "-c", "sleep 9"}) first->add_arguments(argument);
  auto* second = out.add_processes();
  second->set_pid(12345);
  second->set_parent(1);
  second->set_user("evil\nuser");
  second->set_name("k\033[2Jd");
  return out;
}

std::string draw(const std::vector<std::string>& options) {
  const auto columns = ProcessColumns::parse(options);
  return columns.ok() ? columns->draw(two()) : columns.error().message();
}

TEST(ProcessTable, LongForm) {
  const std::string text = draw({});
  EXPECT_EQ(text, draw({"-ef"}));
  EXPECT_TRUE(text.starts_with("UID   PID PPID C STIME TTY     TIME CMD\n")) << text;
  EXPECT_THAT(text, HasSubstr("01:02:03 sh -c sleep 9\n"));
  EXPECT_THAT(text, HasSubstr("[k?[2Jd]\n"));
}

TEST(ProcessTable, UsersForm) {
  const std::string text = draw({"aux"});
  EXPECT_THAT(text, HasSubstr("USER"));
  EXPECT_THAT(text, HasSubstr("%MEM"));
  EXPECT_THAT(text, HasSubstr("evil?user"));
  EXPECT_THAT(text, HasSubstr(" 10.0 "));
}

TEST(ProcessTable, ChosenColumns) {
  EXPECT_EQ(draw({"-o", "pid,args"}), "  PID COMMAND\n    1 sh -c sleep 9\n12345 [k?[2Jd]\n");
  EXPECT_EQ(draw({"-eo", "pid", "-o", "comm"}), "  PID COMMAND\n    1 sh\n12345 k?[2Jd\n");
}

TEST(ProcessTable, SaysWhatIsNotKnown) {
  EXPECT_THAT(draw({"-o", "pid,wchan"}), HasSubstr("no column \"wchan\""));
  EXPECT_THAT(draw({"--forest"}), HasSubstr("--forest"));
  EXPECT_THAT(draw({"-o"}), HasSubstr("needs a list"));
}

}  // namespace
}  // namespace hull::vm
