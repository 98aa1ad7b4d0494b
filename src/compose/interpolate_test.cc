#include "compose/interpolate.h"

#include <gmock/gmock.h>

#include "compose/dotenv.h"
#include "compose/sample.h"

namespace hull::compose {
namespace {

using testing::HasSubstr;

std::string expand(std::string_view text) {
  const Variables variables = {{"A", "one"}, {"EMPTY", ""}, {"B_2", "two"}};
  const auto result = interpolate(text, lookup_in(variables), [](std::string_view) {});
  return result.ok() ? *result : "error: " + result.error().message();
}

TEST(Interpolate, TheFormsOfTheSpecification) {
  EXPECT_EQ(expand("$A ${A} x$B_2."), "one one xtwo.");
  EXPECT_EQ(expand("${NO}-${NO:-d}-${NO-d}-${EMPTY:-d}-${EMPTY-d}"), "-d-d-d-");
  EXPECT_EQ(expand("${A:+x}${EMPTY:+x}${EMPTY+y}${NO+z}"), "xy");
  EXPECT_EQ(expand("${NO:-${NO2:-${A}}}"), "one");
  EXPECT_EQ(expand("${NO:-a}b}"), "ab}");
  EXPECT_EQ(expand("$$A $${A} a$$"), "$A ${A} a$");
  EXPECT_EQ(expand("$5 $ 1$"), "$5 $ 1$");
  EXPECT_EQ(expand("${A:?m}${A?m}"), "oneone");
  EXPECT_EQ(expand("${NO:-with $A and $$}"), "with one and $");
}

TEST(Interpolate, RefusesWhatIsNotWellFormed) {
  EXPECT_THAT(expand("${NO:?give it}"), HasSubstr("the variable NO is required: give it"));
  EXPECT_THAT(expand("${EMPTY:?$A}"), HasSubstr("required: one"));
  EXPECT_THAT(expand("${NO?}"), HasSubstr("the variable NO is required"));
  EXPECT_THAT(expand("${A"), HasSubstr("never closed"));
  EXPECT_THAT(expand("${}"), HasSubstr("no variable's name"));
  EXPECT_THAT(expand("${A/b/c}"), HasSubstr("after the name there may be"));
  EXPECT_THAT(expand("${1A}"), HasSubstr("no variable's name"));
  std::string deep = "x";
  for (int i = 0; i < 100; ++i) deep = "${NO:-" + deep + "}";
  EXPECT_THAT(expand(deep), HasSubstr("nested deeper"));
}

TEST(Interpolate, ValuesOfATreeAndNotItsKeys) {
  Node root = parse_one("a: $A\n$A: [\"${A}\", 1]\nn: ${N}\n");
  const Variables variables = {{"A", "x"}, {"N", "3"}};
  ASSERT_TRUE(interpolate_tree(root, lookup_in(variables), {}).ok());
  EXPECT_EQ(root.text_of("a"), "x");
  EXPECT_EQ(root.find("$A")->list[0].text, "x");
  // What a variable gave may be a number where one is wanted.
  EXPECT_EQ(scalar_type(*root.find("n")), ScalarType::kInt);
  Node wrong = parse_one("a:\n  - ${X:?no}\n");
  EXPECT_THAT(interpolate_tree(wrong, lookup_in(variables), {}).error().message(),
              HasSubstr("test.yaml:2: the variable X"));
}

std::string dotenv(std::string_view text) {
  const Variables variables = {{"HOST", "h"}};
  const auto entries = parse_dotenv(text, intern_file(".env"), lookup_in(variables));
  if (!entries.ok()) return entries.error().message();
  std::string out;
  for (const EnvEntry& one : *entries) out += fmt::format("{}={};", one.name, one.value.value_or("<none>"));
  return out;
}

TEST(Dotenv, TheFormsOfLines) {
  EXPECT_EQ(dotenv("A=1\n# c\n\n  B = two words # c\nexport C=3\r\nD: 4\n"), "A=1;B=two words;C=3;D=4;");
  EXPECT_EQ(dotenv("A='$HOST # x'\nB=\"$HOST\\n\\\"q\\\" \\$HOST\"\nC=$HOST/$A\n"),
            "A=$HOST # x;B=h\n\"q\" $HOST;C=h/$HOST # x;");
  EXPECT_EQ(dotenv("A=\"one\ntwo\" # c\nB=x#y\n"), "A=one\ntwo;B=x#y;");
  EXPECT_EQ(dotenv("HOST\nNOBODY\nA=\nA=2"), "HOST=h;NOBODY=<none>;A=2;");
  EXPECT_EQ(dotenv("\xef\xbb\xbf"
                   "A=${X:-d}"),
            "A=d;");
}

TEST(Dotenv, RefusesWithTheLine) {
  EXPECT_THAT(dotenv("A=1\nB='x\n"), HasSubstr(".env:2: the quotation mark is never closed"));
  EXPECT_THAT(dotenv("A=1\nB='x' y\n"), HasSubstr(".env:2: something follows"));
  EXPECT_THAT(dotenv("=x\n"), HasSubstr(".env:1"));
  EXPECT_THAT(dotenv("A B=x\n"), HasSubstr("no variable's name"));
  EXPECT_THAT(dotenv("A=1\nB=${C:?gone}\n"), HasSubstr(".env:2: the variable C is required: gone"));
  EXPECT_THAT(dotenv(std::string("A=\0", 3)), HasSubstr("NUL"));
}

TEST(Dotenv, RawKeepsTheValue) {
  const auto entries =
      parse_raw_env("A='x' # y\n#c\nB=$C\n", intern_file("raw"), [](std::string_view) { return std::nullopt; });
  ASSERT_TRUE(entries.ok());
  EXPECT_EQ((*entries)[0].value, "'x' # y");
  EXPECT_EQ((*entries)[1].value, "$C");
}

}  // namespace
}  // namespace hull::compose
