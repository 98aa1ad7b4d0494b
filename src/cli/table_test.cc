#include "cli/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/format.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Column kColumns[] = {{"ID", "CONTAINER ID"}, {"Image", "IMAGE"}, {"Names", "NAMES"}};
const Listing kListing = {kColumns, {"ID", "Image", "Names"}, "ID"};

std::vector<Value> rows() {
  return {Value::object()
              .set("ID", "0123456789ab")
              .set("Image", "busybox")
              .set("Names", "web")
              .set("Label", Value::object().set("k", "v")),
          Value::object()
              .set("ID", "ba9876543210")
              .set("Image", "registry.example.org/team/app")
              .set("Names", "db")
              .set("Label", Value::object())};
}

std::string printed(std::string_view format, bool quiet = false) {
  Output out(-1);
  auto done = print_rows(out, kListing, format, quiet, false, rows());
  return done.ok() ? out.buffer() : "ERROR " + done.error().message();
}

TEST(Table, AlignsAsDockerDoes) {
  EXPECT_EQ(printed(""),
            "CONTAINER ID   IMAGE                           NAMES\n"
            "0123456789ab   busybox                         web\n"
            "ba9876543210   registry.example.org/team/app   db\n");
  EXPECT_EQ(printed("table"), printed(""));
}

TEST(Table, FormatsOfTheUser) {
  EXPECT_EQ(printed("{{.ID}}\\t{{.Names}}"), "0123456789ab\tweb\nba9876543210\tdb\n");
  EXPECT_EQ(printed("table {{.Names}}\\t{{.ID}}"),
            "NAMES     CONTAINER ID\nweb       0123456789ab\ndb        ba9876543210\n");
  EXPECT_EQ(printed("json"),
            "{\"ID\":\"0123456789ab\",\"Image\":\"busybox\",\"Names\":\"web\"}\n"
            "{\"ID\":\"ba9876543210\",\"Image\":\"registry.example.org/team/app\",\"Names\":\"db\"}\n");
  EXPECT_EQ(printed("", true), "0123456789ab\nba9876543210\n");
  EXPECT_EQ(printed("{{.Label \"k\"}}"), "v\n\n");
  EXPECT_EQ(printed("table {{upper .Names}}"), "NAMES\nWEB\nDB\n");
  EXPECT_THAT(printed("{{.Nope}}"), HasSubstr("there is no field .Nope (there are .ID, .Image, .Names)"));
}

TEST(Table, FitsTheTerminal) {
  Table table({"CONTAINER ID", "IMAGE", "NAMES"});
  table.add({"0123456789ab", std::string(100, 'i'), "web"});
  const std::string text = table.render(60, std::vector<std::string_view>{"CONTAINER ID", "NAMES"});
  for (const std::string_view line : split(text, '\n')) EXPECT_LE(display_width(line), 60) << line;
  EXPECT_THAT(text, HasSubstr("0123456789ab"));
  EXPECT_THAT(text, HasSubstr("…"));
  EXPECT_THAT(text, HasSubstr("web"));
}

TEST(Table, ShowsControlCharacters) {
  Table table({"NAME"});
  table.add({"evil\x1b[2J\xe2\x80\xae"});
  EXPECT_EQ(table.render(0), "NAME\nevil\\x1b[2J\\u202e\n");
}

TEST(Table, WideCharactersCountTwice) {
  Table table({"NAME", "X"});
  table.add({"日本", "1"});
  EXPECT_EQ(table.render(0), "NAME      X\n日本      1\n");
}

TEST(Text, Wrap) {
  EXPECT_THAT(wrap("one two three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(wrap("incomprehensible", 4), ElementsAre("incomprehensible"));
  EXPECT_THAT(wrap("", 10), ElementsAre());
}

TEST(Text, EllipsisAndQuotes) {
  EXPECT_EQ(ellipsis("abcdef", 4), "abc…");
  EXPECT_EQ(ellipsis("abc", 4), "abc");
  EXPECT_EQ(ellipsis("日本語", 4), "日…");
  EXPECT_EQ(quoted("sh -c \"x\"\n"), "\"sh -c \\\"x\\\"\\n\"");
  EXPECT_EQ(quoted("\x07"), "\"\\x07\"");
}

TEST(Text, Utf8) {
  EXPECT_TRUE(valid_utf8("é日\xf0\x9f\x98\x80"));
  EXPECT_FALSE(valid_utf8("\xc0\x80"));
  EXPECT_FALSE(valid_utf8("\xed\xa0\x80"));
  EXPECT_FALSE(valid_utf8("\xe2\x82"));
  EXPECT_FALSE(valid_utf8("\xf5\x80\x80\x80"));
}

TEST(Format, Ports) {
  const auto port = [](const char* ip, uint16_t host, uint16_t container, const char* protocol = "tcp") {
    return engine::PublishedPort{ip, host, container, protocol};
  };
  EXPECT_EQ(format_ports({port("0.0.0.0", 8080, 80), port("::", 8080, 80)}), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
  EXPECT_EQ(format_ports({port("0.0.0.0", 9000, 90), port("0.0.0.0", 9001, 91), port("0.0.0.0", 9002, 92)}),
            "0.0.0.0:9000-9002->90-92/tcp");
  EXPECT_EQ(format_ports({port("", 0, 443), port("", 0, 444), port("", 0, 53, "udp")}), "443-444/tcp, 53/udp");
  EXPECT_EQ(format_ports({port("0.0.0.0", 1, 80), port("0.0.0.0", 5, 81)}), "0.0.0.0:1->80/tcp, 0.0.0.0:5->81/tcp");
  EXPECT_EQ(format_ports({}), "");
}

}  // namespace
}  // namespace hull::cli
