#include "vmm/virtio/rate_limiter.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <ctime>

namespace hull::vmm {

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kDepth = kSecond / 10;
// Such that rate * kSecond fits: a limit above it is none.
constexpr uint64_t kFastest = 1ull << 33;

uint64_t effective(uint64_t rate) { return rate > kFastest ? 0 : rate; }

}  // namespace

Result<RateLimiter> RateLimiter::create(const RateLimit& limit) {
  RateLimiter made;
  made.bytes_.rate = effective(limit.bytes_per_second);
  made.operations_.rate = effective(limit.operations_per_second);
  if (made.unlimited()) return made;
  made.timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!made.timer_) return errno_error("make a timer for a rate limit");
  return made;
}

uint64_t RateLimiter::now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec);
}

void RateLimiter::Bucket::refill(uint64_t elapsed_ns) {
  // A token is a billionth of a byte or operation; at most kDepth's worth is kept.
  const auto fullest = static_cast<int64_t>(rate * kDepth);
  const uint64_t limited = std::min<uint64_t>(elapsed_ns, kSecond);
  tokens = std::min<int64_t>(fullest, tokens + static_cast<int64_t>(rate * limited));
  // A long pause pays a long debt.
  if (elapsed_ns > limited && tokens < 0) {
    const uint64_t more = std::min<uint64_t>(elapsed_ns - limited, wait_ns());
    tokens = std::min<int64_t>(fullest, tokens + static_cast<int64_t>(rate * more));
  }
}

uint64_t RateLimiter::Bucket::wait_ns() const {
  if (rate == 0 || tokens >= 0) return 0;
  return static_cast<uint64_t>(-tokens) / rate + 1;
}

bool RateLimiter::admit(uint64_t now) {
  const uint64_t elapsed = last_ns_ == 0 ? kSecond : now - last_ns_;
  last_ns_ = now;
  bytes_.refill(elapsed);
  operations_.refill(elapsed);
  const uint64_t wait = std::max(bytes_.wait_ns(), operations_.wait_ns());
  if (wait == 0) return true;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(wait / kSecond);
  when.it_value.tv_nsec = static_cast<long>(wait % kSecond);
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);
  return false;
}

void RateLimiter::charge(uint64_t bytes) {
  if (bytes_.rate != 0) bytes_.tokens -= static_cast<int64_t>(std::min<uint64_t>(bytes, 1 << 30) * kSecond);
  if (operations_.rate != 0) operations_.tokens -= static_cast<int64_t>(kSecond);
}

}  // namespace hull::vmm
