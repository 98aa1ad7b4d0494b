// What each command line of run asks of the engine, as Docker's create request: testdata/run_requests.golden holds
// the command lines and the answers. HULL_UPDATE_GOLDEN=1 rewrites the answers.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/commands.h"
#include "cli/run_options.h"
#include "cli/text.h"
#include "cli/value.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

/// Words of a line: blanks separate, single quotes keep together.
std::vector<std::string> shell_words(std::string_view line) {
  std::vector<std::string> words(1);
  bool quote = false;
  for (const char c : line) {
    if (c == '\'') {
      quote = !quote;
    } else if (c == ' ' && !quote) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

/// Members that an empty request has too, so that the golden file shows what a flag changes.
Value without_defaults(const Value& made, const Value& plain) {
  const auto* members = made.if_object();
  if (members == nullptr) return made;
  Value out = Value::object();
  for (const auto& [name, value] : *members) {
    const Value* before = plain.find(name);
    if (before != nullptr && *before == value) continue;
    out.set(name, before != nullptr && before->if_object() != nullptr ? without_defaults(value, *before) : value);
  }
  return out;
}

Result<engine::Config> request(std::string_view line) {
  const std::vector<std::string> words = shell_words(line);
  const std::vector<std::string_view> views(words.begin() + 2, words.end());  // after "hull run"
  auto parsed = parse_flags(kRun.flags, views, {.stop_at_first_argument = true});
  if (!parsed.ok()) return std::move(parsed).error();
  TRY_ASSIGN(auto options, parse_run_options(*parsed));
  return options.config;
}

std::string answer(std::string_view line) {
  auto config = request(line);
  if (!config.ok()) return "error: " + config.error().message() + "\n";
  const std::string json = engine::to_json(*config);
  auto again = engine::parse_config(json);
  EXPECT_TRUE(again.ok()) << line << ": " << (again.ok() ? "" : again.error().message());
  EXPECT_TRUE(!again.ok() || engine::to_json(*again) == json) << line;
  const auto plain = Value::parse(engine::to_json(*request("hull run image")));
  return without_defaults(*Value::parse(json), *plain).dump(2) + "\n";
}

TEST(RunGolden, Requests) {
  const std::string path = HULL_SOURCE_DIR "/src/cli/testdata/run_requests.golden";
  auto golden = sys::read_file(path);
  ASSERT_TRUE(golden.ok()) << golden.error().message();
  ASSERT_EQ(::setenv("HULL_TEST_VALUE", "from the caller", 1), 0);
  std::string now;
  int count = 0;
  for (const std::string_view line : split(*golden, '\n')) {
    if (!line.starts_with("$ hull run ")) continue;
    now += std::string(line) + "\n" + answer(line.substr(2)) + "\n";
    ++count;
  }
  EXPECT_GT(count, 60);
  if (std::getenv("HULL_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(sys::replace_file(path, now, 0644, false).ok());
    return;
  }
  EXPECT_EQ(now, *golden) << "set HULL_UPDATE_GOLDEN=1 to take the new answers";
}

}  // namespace
}  // namespace hull::cli
