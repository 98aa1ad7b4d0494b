#pragma once
// Health checks of a workload: executes the command in it now and then through the runtime, and keeps what came of the
// last five. Docker's rules: a failure during the start period does not count, a success ends it; so many failures in
// a row make the workload unhealthy. One timer, no heap.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace hull::engine::monitor {

struct HealthRule {
  char* const* exec_argv =
      nullptr;  // the runtime's exec command, detached, with --pid-file health.pid; null: no checks
  int64_t interval_ms = 30'000;
  int64_t timeout_ms = 30'000;
  int64_t start_period_ms = 0;
  int64_t start_interval_ms = 5'000;
  int retries = 3;
};

enum class HealthStatus { kStarting, kHealthy, kUnhealthy };

/// The verdict after one more result; `streak` is the number of failures in a row.
constexpr HealthStatus judge(HealthStatus before, int exit_code, bool in_start_period, int retries, int* streak) {
  if (exit_code == 0) {
    *streak = 0;
    return HealthStatus::kHealthy;
  }
  if (before == HealthStatus::kStarting && in_start_period) return before;
  ++*streak;
  return *streak >= retries ? HealthStatus::kUnhealthy : before;
}

class Health {
 public:
  static constexpr int kKept = 5;
  static constexpr size_t kOutput = 4096;

  /// Descriptors are watched with these tags. Returns 0 or an errno.
  int set_up(const HealthRule& rule, int epoll, uint64_t timer_tag, uint64_t output_tag);
  /// The workload's program runs.
  void begin();
  /// The workload has ended: no more checks, and the one that runs goes.
  void end();
  void on_timer();
  void on_output();
  /// While the runtime starts a check, only its end may be collected: what it starts is ours to wait for, too, and
  /// must not be collected before its number is known. -1: nothing is being started.
  pid_t starting() const { return runtime_; }
  /// A child that ended. True when the status has changed.
  bool ended(pid_t pid, int status);
  const char* status_word() const;

 private:
  struct Result {
    int64_t start_ns = 0, end_ns = 0;
    int exit_code = 0;
    size_t used = 0;
    char output[kOutput];
  };
  void arm(int64_t ms) const;
  void start_check();
  bool finish_check(int exit_code);
  int64_t next_ms() const;
  void write_record() const;
  void close_output();

  const HealthRule* rule_ = nullptr;
  int epoll_ = -1, timer_ = -1, output_ = -1;
  uint64_t output_tag_ = 0;
  pid_t runtime_ = -1, check_ = -1;
  bool running_ = false, timed_out_ = false;
  int64_t began_ns_ = 0;  // on the monotonic clock
  HealthStatus status_ = HealthStatus::kStarting;
  int streak_ = 0;
  int kept_ = 0;  // results_[0] is the oldest
  Result results_[kKept];
  Result current_;
};

}  // namespace hull::engine::monitor
