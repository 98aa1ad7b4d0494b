#pragma once
// One thread, many descriptors: epoll with callbacks, deadlines, and children that end. Nothing here waits for anything
// but the kernel's news.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::guest {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using OnEvents = std::function<void(uint32_t events)>;
  using OnExit = std::function<void(int wait_status)>;

  /// Blocks SIGCHLD in the calling thread and takes every child of the process that ends from now on: nobody else may
  /// wait for children. SIGPIPE is ignored.
  static Result<std::unique_ptr<EventLoop>> make();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  /// Calls `callback` with EPOLL* bits. The descriptor stays the caller's, who forgets it before closing it. With
  /// events 0 it is not watched at all, so that a hang-up that nobody wants to hear of does not wake the loop for ever.
  Result<void> watch(int fd, uint32_t events, OnEvents callback);
  void change(int fd, uint32_t events);
  void forget(int fd);

  /// Calls `callback` once at the time, unless cancelled before.
  uint64_t at(Clock::time_point when, std::function<void()> callback);
  void cancel(uint64_t timer);

  /// Calls `callback` when the child ends; at once, from the loop, when it has ended already and `keep_strays` was on.
  void on_exit(pid_t pid, OnExit callback);
  /// While the count is above zero the ends of unknown children are remembered: a process that a command has left
  /// behind may end before its pid is known here.
  void keep_strays(bool on);

  /// Handles what happens within `limit` (< 0: waits for something).
  Result<void> run_once(std::chrono::milliseconds limit = std::chrono::milliseconds(-1));
  /// Until stop().
  Result<void> run();
  void stop() { stopped_ = true; }

 private:
  struct Watch {
    int fd = -1;
    uint32_t events = 0;
    uint32_t generation = 0;
    OnEvents callback;
  };
  EventLoop() = default;
  void reap();
  void fire_timers();
  int next_timeout(std::chrono::milliseconds limit) const;
  void apply(Watch& watch, uint32_t events);

  UniqueFd epoll_, signals_;
  std::map<int, std::shared_ptr<Watch>> watches_;
  uint32_t next_generation_ = 1;
  std::map<std::pair<Clock::time_point, uint64_t>, std::function<void()>> timers_;
  uint64_t next_timer_ = 1;
  std::map<pid_t, OnExit> children_;
  std::map<pid_t, int> strays_;
  int strays_wanted_ = 0;
  bool stopped_ = false;
};

}  // namespace hull::guest
