#include "cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Flag kFlags[] = {
    {.name = "all", .short_name = 'a', .help = "All"},
    {.name = "interactive", .short_name = 'i', .help = "Keep"},
    {.name = "tty", .short_name = 't', .help = "Terminal"},
    {.name = "env", .short_name = 'e', .kind = ValueKind::kText, .metavar = "X", .help = "Env", .repeatable = true},
    {.name = "memory", .short_name = 'm', .kind = ValueKind::kSize, .metavar = "SIZE", .help = "Memory"},
    {.name = "last", .short_name = 'n', .kind = ValueKind::kInt, .metavar = "N", .help = "Last"},
    {.name = "wait", .kind = ValueKind::kDuration, .metavar = "TIME", .help = "Wait"},
    {.name = "pull",
     .kind = ValueKind::kText,
     .metavar = "WHEN",
     .help = "Pull",
     .complete = Complete::kWords,
     .words = "always never sometimes:"},
    {.name = "hidden", .help = "", .hidden = true},
};
constexpr std::span<const Flag> kTables[] = {kFlags};

Result<Parsed> parse(std::initializer_list<std::string_view> words, bool stop = false) {
  const std::vector<std::string_view> all(words);
  return parse_flags(kTables, all, {.stop_at_first_argument = stop});
}

std::string problem(std::initializer_list<std::string_view> words) {
  auto parsed = parse(words);
  return parsed.ok() ? "none" : parsed.error().message();
}

TEST(Flags, LongNamesWithValuesInBothForms) {
  auto parsed = parse({"--env", "A=1", "--env=B=2", "--memory=512m", "image"});
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(parsed->values("env"), ElementsAre("A=1", "B=2"));
  EXPECT_EQ(parsed->value("memory"), "512m");
  EXPECT_THAT(parsed->arguments, ElementsAre("image"));
}

TEST(Flags, ShortNamesInEveryForm) {
  for (const auto& words : std::initializer_list<std::vector<std::string_view>>{
           {"-e", "A=1"}, {"-eA=1"}, {"-e=A=1"}, {"-ite", "A=1"}, {"-iteA=1"}}) {
    auto parsed = parse_flags(kTables, words, {});
    ASSERT_TRUE(parsed.ok()) << words[0];
    EXPECT_EQ(parsed->value("env"), "A=1") << words[0];
  }
}

TEST(Flags, ClustersOfSwitches) {
  auto parsed = parse({"-it"});
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->on("interactive"));
  EXPECT_TRUE(parsed->on("tty"));
  EXPECT_FALSE(parsed->on("all"));
}

TEST(Flags, SwitchesTakeTrueAndFalse) {
  EXPECT_FALSE(parse({"--tty=false"})->on("tty"));
  EXPECT_TRUE(parse({"--tty=1"})->on("tty"));
  EXPECT_FALSE(parse({"-t=F"})->on("tty"));
  EXPECT_FALSE(parse({"--tty", "--tty=false"})->on("tty"));
  EXPECT_TRUE(parse({"--tty=false"})->has("tty"));
  EXPECT_THAT(problem({"--tty=maybe"}), HasSubstr("\"maybe\" for \"-t, --tty\" flag"));
  // A switch never takes the next word.
  EXPECT_THAT(parse({"--tty", "false"})->arguments, ElementsAre("false"));
}

TEST(Flags, StopAtTheFirstArgument) {
  auto parsed = parse({"-i", "image", "-t", "--env", "x"}, true);
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->on("interactive"));
  EXPECT_FALSE(parsed->on("tty"));
  EXPECT_THAT(parsed->arguments, ElementsAre("image", "-t", "--env", "x"));
}

TEST(Flags, OtherwiseFlagsMayFollowArguments) {
  auto parsed = parse({"web", "-t", "db"});
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->on("tty"));
  EXPECT_THAT(parsed->arguments, ElementsAre("web", "db"));
}

TEST(Flags, TwoDashesEndFlags) {
  auto parsed = parse({"-i", "--", "-t", "--env"});
  ASSERT_TRUE(parsed.ok());
  EXPECT_FALSE(parsed->on("tty"));
  EXPECT_THAT(parsed->arguments, ElementsAre("-t", "--env"));
  EXPECT_THAT(parse({"-"})->arguments, ElementsAre("-"));
}

TEST(Flags, AnEmptyValueIsAValue) {
  auto parsed = parse({"--env="});
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(parsed->values("env"), ElementsAre(""));
  EXPECT_THAT(parse({"--env", ""})->values("env"), ElementsAre(""));
}

TEST(Flags, UnknownFlagsNameTheNearest) {
  EXPECT_EQ(problem({"--memroy", "1g"}), "unknown flag: --memroy (did you mean --memory?)");
  EXPECT_EQ(problem({"--mem", "1g"}), "unknown flag: --mem (did you mean --memory?)");
  EXPECT_EQ(problem({"--frobnicate"}), "unknown flag: --frobnicate");
  EXPECT_EQ(problem({"-x"}), "unknown shorthand flag: 'x' in -x");
  EXPECT_EQ(problem({"-itx"}), "unknown shorthand flag: 'x' in -itx");
}

TEST(Flags, AbbreviationsAreNotTaken) { EXPECT_THAT(problem({"--interact"}), HasSubstr("unknown flag")); }

TEST(Flags, MissingValues) {
  EXPECT_EQ(problem({"--env"}), "flag needs an argument: -e, --env");
  EXPECT_EQ(problem({"-e"}), "flag needs an argument: -e, --env");
  EXPECT_EQ(problem({"-ie"}), "flag needs an argument: -e, --env");
}

TEST(Flags, ValuesAreCheckedByKind) {
  EXPECT_THAT(problem({"-m", "lots"}), HasSubstr("expected a size"));
  EXPECT_THAT(problem({"-n", "x"}), HasSubstr("\"x\" for \"-n, --last\" flag: expected a whole number"));
  EXPECT_THAT(problem({"--wait", "5"}), HasSubstr("expected a duration"));
  EXPECT_THAT(problem({"--pull", "often"}), HasSubstr("expected one of always never"));
  EXPECT_EQ(problem({"--pull", "sometimes:3"}), "none");
  EXPECT_THAT(problem({"--pull", "sometimes"}), HasSubstr("expected one of"));
  EXPECT_EQ(parse({"-n", "-1"})->number("last"), -1);
  EXPECT_EQ(parse({})->number("last"), std::nullopt);
  EXPECT_THAT(problem({std::string_view("--env=a\0b", 9)}), HasSubstr("NUL"));
}

TEST(Flags, HelpIsAlwaysThere) {
  EXPECT_TRUE(parse({"--help"})->help);
  EXPECT_TRUE(parse({"-h"})->help);
  EXPECT_TRUE(parse({"--help=true"})->help);
}

TEST(Flags, TheLastValueCounts) {
  EXPECT_EQ(parse({"-m", "1g", "-m", "2g"})->value("memory"), "2g");
  EXPECT_EQ(parse({})->value("memory", "none"), "none");
  EXPECT_THAT(parse({})->given, IsEmpty());
}

TEST(Nearest, SwapsAndSlips) {
  constexpr std::string_view kNames[] = {"run", "rm", "ps", "images", "inspect"};
  EXPECT_EQ(nearest("rnu", kNames), "run");
  EXPECT_EQ(nearest("image", kNames), "images");
  EXPECT_EQ(nearest("inspcet", kNames), "inspect");
  EXPECT_EQ(nearest("kubernetes", kNames), "");
  EXPECT_EQ(nearest(std::string(1000, 'x'), kNames), "");
}

}  // namespace
}  // namespace hull::cli
