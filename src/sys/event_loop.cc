#include "sys/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <chrono>

namespace hull::sys {

int64_t now_ms() {
  using std::chrono::duration_cast, std::chrono::milliseconds, std::chrono::steady_clock;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

Result<Loop> Loop::open() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return errno_error("make an epoll");
  return Loop(std::move(epoll));
}

Result<void> Loop::watch(int fd, uint32_t events, Handler handler) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("watch a descriptor");
  handlers_[fd] = std::make_shared<Handler>(std::move(handler));
  return {};
}

void Loop::change(int fd, uint32_t events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Loop::forget(int fd) {
  if (handlers_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Loop::TimerId Loop::after(int64_t delay_ms, std::function<void()> call) {
  const TimerId id = ++last_timer_;
  const int64_t due = now_ms() + delay_ms;
  timers_.emplace(std::pair(due, id), std::move(call));
  due_.emplace(id, due);
  return id;
}

void Loop::cancel(TimerId timer) {
  const auto it = due_.find(timer);
  if (it == due_.end()) return;
  timers_.erase({it->second, timer});
  due_.erase(it);
}

// Runs what is due; milliseconds until the next, -1 for none.
int Loop::run_timers() {
  while (!timers_.empty() && !stopped_) {
    const auto first = timers_.begin();
    const int64_t wait = first->first.first - now_ms();
    if (wait > 0) return static_cast<int>(std::min<int64_t>(wait, 60'000));
    const auto call = std::move(first->second);
    due_.erase(first->first.second);
    timers_.erase(first);
    call();
  }
  return -1;
}

Result<void> Loop::run() {
  std::array<epoll_event, 64> events;
  while (!stopped_) {
    const int wait = run_timers();
    if (stopped_) break;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait);
    if (count < 0 && errno != EINTR) return errno_error("wait for events");
    for (int i = 0; i < count && !stopped_; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      const auto it = handlers_.find(event.data.fd);
      if (it == handlers_.end()) continue;  // forgotten by an earlier handler of this round
      const std::shared_ptr<Handler> handler = it->second;
      (*handler)(event.events);
    }
  }
  return {};
}

}  // namespace hull::sys
