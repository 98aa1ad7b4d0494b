#pragma once
// Whether a workload that ended starts again, and after how long: Docker's rules (its restart manager).

#include <cstdint>

namespace hull::engine::monitor {

struct RestartRule {
  enum class When { kNever, kAlways, kOnFailure };
  When when = When::kNever;
  int most = 0;               // restarts in a row, with kOnFailure; 0: any number
  int count = 0;              // how often the policy has started it again so far
  int64_t last_delay_ms = 0;  // what the last restart waited; 0: none yet
};

inline constexpr int64_t kFirstDelayMs = 100;
inline constexpr int64_t kLongestDelayMs = 60'000;
/// A run of this length was a good one: the next wait is short again.
inline constexpr int64_t kGoodRunNs = 10'000'000'000;

constexpr bool starts_again(const RestartRule& rule, int exit_code) {
  switch (rule.when) {
    case RestartRule::When::kNever:
      return false;
    case RestartRule::When::kAlways:
      return true;
    case RestartRule::When::kOnFailure:
      return exit_code != 0 && (rule.most == 0 || rule.count < rule.most);
  }
  return false;
}

/// 100 ms, doubled each time up to a minute.
constexpr int64_t next_delay_ms(const RestartRule& rule, int64_t ran_ns) {
  if (rule.last_delay_ms <= 0 || ran_ns >= kGoodRunNs) return kFirstDelayMs;
  const int64_t doubled = rule.last_delay_ms * 2;
  return doubled > kLongestDelayMs ? kLongestDelayMs : doubled;
}

}  // namespace hull::engine::monitor
