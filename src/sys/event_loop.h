#pragma once
// One thread's event loop: descriptors and timers.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

/// Milliseconds of the monotonic clock.
int64_t now_ms();

class Loop {
 public:
  using Handler = std::function<void(uint32_t events)>;
  using TimerId = uint64_t;
  static Result<Loop> open();

  /// `events` as epoll's, level triggered. The descriptor stays the caller's, who forgets it before closing it.
  Result<void> watch(int fd, uint32_t events, Handler handler);
  void change(int fd, uint32_t events);
  void forget(int fd);

  TimerId after(int64_t delay_ms, std::function<void()> call);
  void cancel(TimerId timer);

  /// Until stop().
  Result<void> run();
  void stop() { stopped_ = true; }

 private:
  explicit Loop(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  int run_timers();
  UniqueFd epoll_;
  std::unordered_map<int, std::shared_ptr<Handler>> handlers_;
  std::map<std::pair<int64_t, TimerId>, std::function<void()>> timers_;
  std::unordered_map<TimerId, int64_t> due_;
  TimerId last_timer_ = 0;
  bool stopped_ = false;
};

}  // namespace hull::sys
