// The rules by which a monitor restarts and judges, on numbers alone.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/monitor/health.h"
#include "engine/monitor/monitor.h"
#include "engine/monitor/restart.h"

namespace hull::engine::monitor {
namespace {

using When = RestartRule::When;

TEST(Restart, WhoStartsAgain) {
  EXPECT_FALSE(starts_again({When::kNever, 0, 0, 0}, 1));
  EXPECT_TRUE(starts_again({When::kAlways, 0, 1000, 0}, 0));
  EXPECT_FALSE(starts_again({When::kOnFailure, 0, 0, 0}, 0));
  EXPECT_TRUE(starts_again({When::kOnFailure, 0, 100'000, 0}, 1));
  EXPECT_TRUE(starts_again({When::kOnFailure, 3, 2, 0}, 1));
  EXPECT_FALSE(starts_again({When::kOnFailure, 3, 3, 0}, 1));
}

TEST(Restart, WaitsTwiceAsLongEachTimeUpToAMinute) {
  RestartRule rule{When::kAlways, 0, 0, 0};
  const int64_t wanted[] = {100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000};
  for (const int64_t delay : wanted) {
    rule.last_delay_ms = next_delay_ms(rule, 1'000'000'000);
    EXPECT_EQ(rule.last_delay_ms, delay);
  }
  EXPECT_EQ(next_delay_ms(rule, 9'999'999'999), 60000);
  EXPECT_EQ(next_delay_ms(rule, 10'000'000'000), 100);
}

TEST(Health, Verdicts) {
  int streak = 0;
  EXPECT_EQ(judge(HealthStatus::kStarting, 1, true, 2, &streak), HealthStatus::kStarting);
  EXPECT_EQ(streak, 0);
  EXPECT_EQ(judge(HealthStatus::kStarting, 1, false, 2, &streak), HealthStatus::kStarting);
  EXPECT_EQ(streak, 1);
  EXPECT_EQ(judge(HealthStatus::kStarting, 0, true, 2, &streak), HealthStatus::kHealthy);
  EXPECT_EQ(streak, 0);
  // A success has ended the start period.
  EXPECT_EQ(judge(HealthStatus::kHealthy, 1, true, 2, &streak), HealthStatus::kHealthy);
  EXPECT_EQ(judge(HealthStatus::kHealthy, -1, true, 2, &streak), HealthStatus::kUnhealthy);
  EXPECT_EQ(judge(HealthStatus::kUnhealthy, 1, false, 2, &streak), HealthStatus::kUnhealthy);
  EXPECT_EQ(streak, 3);
  EXPECT_EQ(judge(HealthStatus::kUnhealthy, 0, false, 2, &streak), HealthStatus::kHealthy);
}

Options parsed(std::vector<std::string> words, bool wanted = true) {
  static std::vector<std::vector<std::string>> kept;
  kept.push_back(std::move(words));
  static std::vector<std::vector<char*>> arguments;
  std::vector<char*>& argv = arguments.emplace_back();
  for (std::string& word : kept.back()) argv.push_back(word.data());
  Options options;
  EXPECT_EQ(parse_options(static_cast<int>(argv.size()), argv.data(), &options), wanted);
  return options;
}

TEST(Options, OfServices) {
  const Options options = parsed({"hull-monitor",
                                  "--id",
                                  "x",
                                  "--restart",
                                  "on-failure",
                                  "--restart-most",
                                  "3",
                                  "--restart-count",
                                  "2",
                                  "--restart-delay",
                                  "400",
                                  "--health-interval",
                                  "7",
                                  "--health-retries",
                                  "9",
                                  "--health",
                                  "2",
                                  "probe",
                                  "now",
                                  "",
                                  "--log",
                                  "l",
                                  "--log-format",
                                  "local",
                                  "--log-drops",
                                  "--",
                                  "runtime",
                                  "create"});
  EXPECT_EQ(options.restart.when, When::kOnFailure);
  EXPECT_EQ(options.restart.most, 3);
  EXPECT_EQ(options.restart.count, 2);
  EXPECT_EQ(options.restart.last_delay_ms, 400);
  EXPECT_EQ(options.health.interval_ms, 7);
  EXPECT_EQ(options.health.retries, 9);
  ASSERT_NE(options.health.exec_argv, nullptr);
  EXPECT_STREQ(options.health.exec_argv[1], "now");
  EXPECT_EQ(options.health.exec_argv[2], nullptr);
  EXPECT_EQ(options.log_format, LogFormat::kLocal);
  EXPECT_FALSE(options.log_waits);
  EXPECT_STREQ(options.create_argv[1], "create");
}

TEST(Options, Refused) {
  parsed({"hull-monitor", "--id", "x", "--restart", "sometimes", "--", "runtime"}, false);
  parsed({"hull-monitor", "--id", "x", "--health", "9", "probe", "", "--", "runtime"}, false);
  parsed({"hull-monitor", "--id", "x", "--restart-most", "-1", "--", "runtime"}, false);
  parsed({"hull-monitor", "--id", "x", "--log-format", "xml", "--", "runtime"}, false);
}

}  // namespace
}  // namespace hull::engine::monitor
