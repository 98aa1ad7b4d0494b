#include "compose/yaml.h"

#include <gmock/gmock.h>

#include "compose/sample.h"

namespace hull::compose {
namespace {

using testing::HasSubstr;

TEST(Yaml, EveryPartKnowsItsLine) {
  const Node root = parse_one("a: 1\nb:\n  - x\n  - {c: d}\n");
  EXPECT_EQ(root.find("a")->mark.str(), "test.yaml:1");
  EXPECT_EQ(root.find("b")->list[0].mark.line, 3);
  EXPECT_EQ(root.find("b")->list[1].find("c")->mark.line, 4);
}

TEST(Yaml, ScalarsHaveTheTypesOfTheCoreSchema) {
  const Node root = parse_one("[1, 0x10, 0o17, 0640, 1.5, true, yes, '1', ~, text, -3, 1e3, .5]");
  using T = ScalarType;
  const T expected[] = {T::kInt,  T::kInt,  T::kInt,  T::kInt, T::kFloat, T::kBool, T::kText,
                        T::kText, T::kNull, T::kText, T::kInt, T::kFloat, T::kFloat};
  ASSERT_EQ(root.list.size(), std::size(expected));
  for (size_t i = 0; i < root.list.size(); ++i) EXPECT_EQ(scalar_type(root.list[i]), expected[i]) << i;
  EXPECT_EQ(to_int(root.list[1]), 16);
  EXPECT_EQ(to_int(root.list[2]), 15);
  EXPECT_EQ(to_int(root.list[3]), 0640);
  EXPECT_EQ(to_int(root.list[10]), -3);
}

TEST(Yaml, AliasesAndMergeKeys) {
  const Node root = parse_one(
      "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\none:\n  <<: *base\n  b: 9\ntwo:\n  <<: [*more, *base]\n"
      "text: {'<<': plain}\n");
  EXPECT_EQ(root.find("one")->text_of("a"), "1");
  EXPECT_EQ(root.find("one")->text_of("b"), "9");
  EXPECT_EQ(root.find("two")->text_of("b"), "3");
  EXPECT_EQ(root.find("two")->text_of("c"), "4");
  EXPECT_EQ(root.find("two")->text_of("a"), "1");
  EXPECT_EQ(root.find("text")->text_of("<<"), "plain");
}

TEST(Yaml, RefusesWhatIsWrong) {
  EXPECT_THAT(parse_error("a: 1\nb: 2\na: 3\n"),
              HasSubstr("test.yaml:3: the key \"a\" is there twice (first on line 1)"));
  EXPECT_THAT(parse_error("a: [1, 2\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(parse_error("a: *nobody\n"), HasSubstr("test.yaml:1"));
  EXPECT_THAT(parse_error("? {a: b}\n: c\n"), HasSubstr("a key must be text"));
  EXPECT_THAT(parse_error("a: !binary xyz\n"), HasSubstr("the tag !binary is not understood"));
  EXPECT_THAT(parse_error("a: !!timestamp 2001-01-01\n"), HasSubstr("!!timestamp"));
  EXPECT_THAT(parse_error("a: &a [*a]\n"), HasSubstr("inside the very node"));
  EXPECT_THAT(parse_error("a: {<<: 3}\n"), HasSubstr("takes a map"));
  EXPECT_THAT(parse_error("a: \"\\0\"\n"), HasSubstr("NUL"));
}

TEST(Yaml, IsBounded) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{0}: &a{0} [", i);
    for (int j = 0; j < 10; ++j) bomb += fmt::format("{}*a{}", j > 0 ? ", " : "", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(parse_error(bomb), HasSubstr("too large once its aliases are written out"));
  std::string text_bomb = "a: &a " + std::string(500'000, 'x') + "\nb: [";
  for (int i = 0; i < 100; ++i) text_bomb += "*a, ";
  EXPECT_THAT(parse_error(text_bomb + "]\n"), HasSubstr("too large"));
  EXPECT_THAT(parse_error(std::string(100, '[') + std::string(100, ']')), HasSubstr("nested deeper"));
  EXPECT_THAT(parse_error(std::string(5000, '[')), HasSubstr("test.yaml:1"));
  EXPECT_THAT(parse_error(std::string((1 << 20) + 1, ' ')), HasSubstr("larger than 1024 KiB"));
  std::string wide;
  for (int i = 0; i < 6000; ++i) wide += fmt::format("k{}: 1\n", i);
  EXPECT_THAT(parse_error(wide), HasSubstr("more than 5000 keys"));
}

TEST(Yaml, PrintsWhatReadsBackAsTheSame) {
  const Node root = parse_one(
      "text: [plain, 'true', '12', '', ' blank ', \"a\\nb\", 'it''s', 'a: b', '# c', \"\\u00e9\", '~', '-', 'yes', "
      "\"\\x01\\x7f\\t\"]\n"
      "types: [true, 12, 1.5, null]\nempty: {list: [], map: {}}\nnested:\n  - a: 1\n    b: [x]\n  - - 1\n    - 2\n");
  const std::string printed = print_yaml(root);
  const Node again = parse_one(printed);
  EXPECT_EQ(print_json(root), print_json(again)) << printed;
  EXPECT_EQ(print_yaml(again), printed);
}

TEST(Yaml, KeepsComposeTags) {
  const Node root = parse_one("a: !reset null\nb: !override [x]\nc: !!str 12\n");
  EXPECT_EQ(root.find("a")->tag, Node::Tag::kReset);
  EXPECT_EQ(root.find("b")->tag, Node::Tag::kOverride);
  EXPECT_EQ(scalar_type(*root.find("c")), ScalarType::kText);
}

}  // namespace
}  // namespace hull::compose
