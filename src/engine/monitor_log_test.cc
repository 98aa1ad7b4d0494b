#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/units.h"
#include "engine/journal_reader.h"
#include "engine/log_config.h"
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

  int open(int64_t max_size, int max_files, monitor::LogFormat format = monitor::LogFormat::kJson) {
    monitor::LogTarget target;
    target.dir_fd = dir_.get();
    target.name = "log";
    target.format = format;
    target.max_size = max_size;
    target.max_files = max_files;
    return writer_->open(target);
  }
  std::string read(LogOptions options = {}) {
    std::string text;
    const auto done = read_logs(
        LogFiles{folder_ + "/log", local_, {}}, options,
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
  bool local_ = false;
  UniqueFd dir_;
  std::unique_ptr<monitor::LogWriter> writer_;
};

TEST_F(LogTest, WritesDockersFormat) {
  ASSERT_EQ(open(-1, 1), 0);
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
  ASSERT_EQ(open(-1, 1), 0);
  std::string line;
  while (line.size() < 100'000) line += "\xe2\x82\xac";
  for (size_t at = 0; at < line.size(); at += 777) say(std::string_view(line).substr(at, 777));
  say("\nnext\n");
  EXPECT_EQ(read(), line + "\nnext\n");
  EXPECT_EQ(read().find("\xef\xbf\xbd"), std::string::npos) << "a character was cut";
}

TEST_F(LogTest, RotatesWithoutLosingALine) {
  ASSERT_EQ(open(2000, 4), 0);
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
  ASSERT_EQ(open(500, 1), 0);
  for (int i = 0; i < 20; ++i) say("line " + std::to_string(i) + "\n");
  EXPECT_FALSE(sys::exists(folder_ + "/log.1"));
  EXPECT_TRUE(read().ends_with("line 19\n"));
}

TEST_F(LogTest, ChoosesByTimeAndStream) {
  ASSERT_EQ(open(-1, 1), 0);
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

TEST_F(LogTest, LocalIsCompactAndKeepsBytes) {
  local_ = true;
  ASSERT_EQ(open(-1, 1, monitor::LogFormat::kLocal), 0);
  say("a \"b\"\t\xff\n");
  say("err\n", 2, 1'700'000'000'120'000'000);
  say("part");
  writer_->finish(1, 5);
  EXPECT_EQ(*sys::read_file(folder_ + "/log"),
            "2023-11-14T22:13:20Z stdout F a \"b\"\t\xff\n"
            "2023-11-14T22:13:20.12Z stderr F err\n"
            "1970-01-01T00:00:00.000000005Z stdout P part\n");
  EXPECT_EQ(read(), "a \"b\"\t\xff\nerr\npart");
  LogRecord record;
  for (const char* bad : {"", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z stdout", "2023-11-14T22:13:20Z stdin  F x",
                          "yesterday stdout F x", "2023-11-14T22:13:20Z stdout X x"}) {
    EXPECT_FALSE(parse_local_line(bad, &record)) << bad;
  }
  ASSERT_TRUE(parse_local_line("2023-11-14T22:13:20Z stdout F ", &record));
  EXPECT_EQ(record.text, "\n");
}

TEST_F(LogTest, AFollowerMissesNothingHoweverOftenIsRotated) {
  ASSERT_EQ(open(500, 100), 0);
  say("line 0\n");
  std::string all = "line 0\n", seen;
  LogOptions options;
  options.follow = true;
  bool wrote = false;
  // Many rotations while the reader looks away.
  const auto done = read_logs(
      LogFiles{folder_ + "/log", false, {}}, options,
      [&](int, TimePoint, std::string_view line) -> Result<void> {
        seen += line;
        if (wrote) return {};
        wrote = true;
        for (int i = 1; i < 200; ++i) {
          const std::string more = "line " + std::to_string(i) + "\n";
          say(more, 1, 1'700'000'000'000'000'000 + i);
          all += more;
        }
        return {};
      },
      [&] { return seen == all && wrote; }, -1);
  EXPECT_TRUE(done.ok());
  EXPECT_EQ(seen, all);
}

TEST_F(LogTest, ExtraMembersAreInEachRecord) {
  ASSERT_TRUE(sys::replace_file(folder_ + "/extra", "\"attrs\":{\"a\":\"b\"}").ok());
  const UniqueFd extra = sys::open(folder_ + "/extra", O_RDONLY).value();
  monitor::LogTarget target;
  target.dir_fd = dir_.get();
  target.name = "log";
  target.extra_fd = extra.get();
  ASSERT_EQ(writer_->open(target), 0);
  say("x\n");
  EXPECT_EQ(*sys::read_file(folder_ + "/log"),
            "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"b\"},\"time\":\"2023-11-14T22:13:20Z\"}\n");
  EXPECT_EQ(read(), "x\n");
}

TEST(Journal, ExportFormat) {
  const std::string stream = std::string(
                                 "__CURSOR=c1\n__REALTIME_TIMESTAMP=1700000000000000\nMESSAGE=plain\nPRIORITY=3\n\n"
                                 "__CURSOR=c2\nMESSAGE\n") +
                             std::string("\x05\0\0\0\0\0\0\0", 8) +
                             "a\nb c\nCONTAINER_PARTIAL_MESSAGE=true\nOTHER=x\n\n";
  // Cut anywhere, it says the same.
  for (size_t cut = 1; cut < stream.size(); ++cut) {
    JournalExport entries;
    std::vector<LogRecord> records;
    const auto sink = [&](const LogRecord& record) -> Result<void> {
      records.push_back(record);
      return {};
    };
    ASSERT_TRUE(entries.feed(std::string_view(stream).substr(0, cut), sink).ok());
    ASSERT_TRUE(entries.feed(std::string_view(stream).substr(cut), sink).ok());
    ASSERT_EQ(records.size(), 2U) << cut;
    EXPECT_EQ(records[0].text, "plain\n");
    EXPECT_EQ(records[0].stream, 2);
    EXPECT_EQ(records[1].text, "a\nb c");
    EXPECT_EQ(entries.cursor(), "c2");
  }
}

TEST(LogTags, AreExpanded) {
  const LogSource source{std::string(64, 'a'), "web", "nginx:1", "sha256:" + std::string(64, 'b'), "nginx -g x"};
  EXPECT_EQ(expand_log_tag("{{.ImageName}}/{{ .Name }}/{{.ID}}", source).value(), "nginx:1/web/aaaaaaaaaaaa");
  EXPECT_FALSE(expand_log_tag("{{.Name", source).ok());
  EXPECT_FALSE(expand_log_tag("{{.Moon}}", source).ok());
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
