#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/units.h"
#include "engine/log_reader.h"
#include "engine/monitor/log_writer.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

class LogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-log-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    dir_ = sys::open(folder_, O_RDONLY | O_DIRECTORY).value();
    writer_ = std::make_unique<monitor::LogWriter>();
  }
  void TearDown() override { ignore_result(sys::remove_tree(folder_)); }

  std::string read(LogOptions options = {}) {
    std::string text;
    const auto done = read_logs(
        folder_ + "/log", options,
        [&](int, TimePoint, std::string_view line) -> Result<void> {
          text += line;
          return {};
        },
        [] { return true; }, -1);
    EXPECT_TRUE(done.ok()) << done.error().message();
    return text;
  }
  void say(std::string_view text, int stream = 1, int64_t now = 1'700'000'000'000'000'000) {
    writer_->feed(stream, text.data(), text.size(), now);
  }

  std::string folder_;
  UniqueFd dir_;
  std::unique_ptr<monitor::LogWriter> writer_;
};

TEST_F(LogTest, WritesDockersFormat) {
  ASSERT_EQ(writer_->open(dir_.get(), "log", -1, 1), 0);
  say("a \"quoted\"\tline\\\n<half");
  say(" line>\n", 1);
  say("err\x01\xff\xe2\x82\xac\n", 2, 1'700'000'000'120'000'000);
  say("no end");
  writer_->finish(1, 5);
  EXPECT_EQ(
      *sys::read_file(folder_ + "/log"),
      "{\"log\":\"a \\\"quoted\\\"\\tline\\\\\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20Z\"}\n"
      "{\"log\":\"\\u003chalf line\\u003e\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20Z\"}\n"
      "{\"log\":\"err\\u0001\\ufffd\xe2\x82\xac\\n\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
      "{\"log\":\"no end\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000000005Z\"}\n");
}

TEST_F(LogTest, SplitsLongLinesBetweenCharacters) {
  ASSERT_EQ(writer_->open(dir_.get(), "log", -1, 1), 0);
  std::string line;
  while (line.size() < 100'000) line += "\xe2\x82\xac";
  for (size_t at = 0; at < line.size(); at += 777) say(std::string_view(line).substr(at, 777));
  say("\nnext\n");
  EXPECT_EQ(read(), line + "\nnext\n");
  EXPECT_EQ(read().find("\xef\xbf\xbd"), std::string::npos) << "a character was cut";
}

TEST_F(LogTest, RotatesWithoutLosingALine) {
  ASSERT_EQ(writer_->open(dir_.get(), "log", 2000, 4), 0);
  std::string all;
  for (int i = 0; i < 60; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    say(line);
    all += line;
  }
  EXPECT_TRUE(sys::exists(folder_ + "/log.1"));
  EXPECT_FALSE(sys::exists(folder_ + "/log.4"));
  const std::string kept = read();
  EXPECT_TRUE(all.ends_with(kept));
  EXPECT_EQ(kept, all) << "60 lines fit into four files";
  LogOptions tail;
  tail.tail = 35;
  EXPECT_EQ(read(tail), all.substr(all.find("line 25\n")));
  tail.tail = 0;
  EXPECT_EQ(read(tail), "");
  tail.tail = 1;
  EXPECT_EQ(read(tail), "line 59\n");
}

TEST_F(LogTest, OneFileStartsAnew) {
  ASSERT_EQ(writer_->open(dir_.get(), "log", 500, 1), 0);
  for (int i = 0; i < 20; ++i) say("line " + std::to_string(i) + "\n");
  EXPECT_FALSE(sys::exists(folder_ + "/log.1"));
  EXPECT_TRUE(read().ends_with("line 19\n"));
}

TEST_F(LogTest, ChoosesByTimeAndStream) {
  ASSERT_EQ(writer_->open(dir_.get(), "log", -1, 1), 0);
  for (int i = 0; i < 5; ++i) say("t" + std::to_string(i) + "\n", i % 2 + 1, i * 1'000'000'000LL);
  LogOptions options;
  options.since = TimePoint(std::chrono::seconds(1));
  options.until = TimePoint(std::chrono::seconds(3));
  EXPECT_EQ(read(options), "t1\nt2\nt3\n");
  options.stderr_lines = false;
  EXPECT_EQ(read(options), "t2\n");
}

TEST_F(LogTest, SkipsALineThatACrashCut) {
  ASSERT_TRUE(sys::replace_file(folder_ + "/log",
                                "{\"log\":\"whole\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20Z\"}\n"
                                "{\"log\":\"cu\n{\"log\":\"after\\n\",\"stream\":\"stdout\",\"time\":"
                                "\"2023-11-14T22:13:20Z\"}\n{\"log\":\"tail")
                  .ok());
  EXPECT_EQ(read(), "whole\nafter\n");
}

TEST(LogTime, IsRfc3339) {
  for (const int64_t ns : {0LL, 1LL, 951'782'399'999'999'999LL, 951'782'400'000'000'000LL, 4'102'444'800'500'000'000LL,
                           1'709'251'199'000'000'000LL}) {
    char text[48];
    const size_t length = monitor::format_time(ns, text);
    const auto parsed = parse_rfc3339(std::string_view(text, length));
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(std::chrono::duration_cast<std::chrono::nanoseconds>(parsed->time_since_epoch()).count(), ns) << text;
  }
}

}  // namespace
}  // namespace hull::engine
