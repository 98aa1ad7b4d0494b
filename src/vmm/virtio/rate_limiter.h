#pragma once
// Bytes and operations a second, as two token buckets of a tenth of a second each. What was started is charged in full,
// so a bucket may be in debt; nothing new is started then.

#include <cstdint>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/machine_config.h"

namespace hull::vmm {

class RateLimiter {
 public:
  /// A limiter without limits needs no descriptor and never blocks.
  static Result<RateLimiter> create(const RateLimit& limit);

  /// True when something may be started at `now_ns` (a monotonic clock's). False: the timer is set, and its descriptor
  /// becomes readable when it is time.
  bool admit(uint64_t now_ns);
  bool admit() { return unlimited() || admit(now_ns()); }
  /// Charges one operation of so many bytes.
  void charge(uint64_t bytes);
  /// A timerfd to watch, or -1 when there are no limits. Clear it with clear_event().
  int timer_fd() const { return timer_.get(); }
  bool unlimited() const { return bytes_.rate == 0 && operations_.rate == 0; }

 private:
  struct Bucket {
    uint64_t rate = 0;   // a second; 0: no limit
    int64_t tokens = 0;  // in billionths
    void refill(uint64_t elapsed_ns);
    uint64_t wait_ns() const;
  };
  static uint64_t now_ns();

  Bucket bytes_, operations_;
  uint64_t last_ns_ = 0;
  UniqueFd timer_;
};

}  // namespace hull::vmm
