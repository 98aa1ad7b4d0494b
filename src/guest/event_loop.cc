#include "guest/event_loop.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error_format.h"

namespace hull::guest {
namespace {

constexpr uint64_t kSignals = 0;  // epoll data of the signal descriptor; watches have a generation above 0

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::make() {
  std::unique_ptr<EventLoop> loop(new EventLoop());
  loop->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_) return errno_error("epoll_create1");
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  if (::sigprocmask(SIG_BLOCK, &child, nullptr) != 0) return errno_error("block SIGCHLD");
  ::signal(SIGPIPE, SIG_IGN);
  loop->signals_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!loop->signals_) return errno_error("signalfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kSignals;
  if (::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->signals_.get(), &event) != 0) {
    return errno_error("watch SIGCHLD");
  }
  return loop;
}

EventLoop::~EventLoop() = default;

void EventLoop::apply(Watch& watch, uint32_t events) {
  if (events == watch.events) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(watch.generation) << 32 | static_cast<uint32_t>(watch.fd);
  const int operation = watch.events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  ::epoll_ctl(epoll_.get(), operation, watch.fd, &event);
  watch.events = events;
}

Result<void> EventLoop::watch(int fd, uint32_t events, OnEvents callback) {
  auto added = std::make_shared<Watch>();
  added->fd = fd;
  added->generation = next_generation_++;
  added->callback = std::move(callback);
  if (events != 0) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<uint64_t>(added->generation) << 32 | static_cast<uint32_t>(fd);
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("watch a descriptor");
    added->events = events;
  }
  watches_[fd] = std::move(added);
  return {};
}

void EventLoop::change(int fd, uint32_t events) {
  const auto found = watches_.find(fd);
  if (found != watches_.end()) apply(*found->second, events);
}

void EventLoop::forget(int fd) {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  apply(*found->second, 0);
  found->second->generation = 0;
  watches_.erase(found);
}

uint64_t EventLoop::at(Clock::time_point when, std::function<void()> callback) {
  timers_[{when, next_timer_}] = std::move(callback);
  return next_timer_++;
}

void EventLoop::cancel(uint64_t timer) {
  std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
}

void EventLoop::on_exit(pid_t pid, OnExit callback) {
  const auto stray = strays_.find(pid);
  if (stray == strays_.end()) {
    children_[pid] = std::move(callback);
    return;
  }
  const int status = stray->second;
  strays_.erase(stray);
  at(Clock::now(), [status, callback = std::move(callback)] { callback(status); });
}

void EventLoop::keep_strays(bool on) {
  strays_wanted_ += on ? 1 : -1;
  if (strays_wanted_ == 0) strays_.clear();
}

void EventLoop::reap() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
  }
  // All that have ended first: a command's end makes the pid of another one known.
  std::vector<std::pair<pid_t, int>> ended;
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) ended.emplace_back(pid, status);
  }
  for (const auto& [pid, code] : ended) {
    if (!children_.contains(pid) && strays_wanted_ > 0) strays_[pid] = code;
  }
  for (const auto& [pid, code] : ended) {
    const auto child = children_.find(pid);
    if (child == children_.end()) continue;
    const OnExit callback = std::move(child->second);
    children_.erase(child);
    callback(code);
  }
}

void EventLoop::fire_timers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    const auto callback = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    callback();
  }
}

int EventLoop::next_timeout(std::chrono::milliseconds limit) const {
  using std::chrono::milliseconds;
  if (timers_.empty()) return static_cast<int>(limit.count());
  const auto left = std::chrono::ceil<milliseconds>(timers_.begin()->first.first - Clock::now());
  const auto wait = std::clamp<int64_t>(left.count(), 0, 1 << 30);
  return static_cast<int>(limit.count() < 0 ? wait : std::min<int64_t>(wait, limit.count()));
}

Result<void> EventLoop::run_once(std::chrono::milliseconds limit) {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), next_timeout(limit));
  if (count < 0 && errno != EINTR) return errno_error("epoll_wait");
  for (int i = 0; i < count; ++i) {
    const uint64_t data = events[static_cast<size_t>(i)].data.u64;
    if (data == kSignals) {
      reap();
      continue;
    }
    const auto found = watches_.find(static_cast<int>(data & 0xFFFFFFFF));
    // An earlier callback may have closed it and opened another one of the same number.
    if (found == watches_.end() || found->second->generation != data >> 32) continue;
    const std::shared_ptr<Watch> watch = found->second;
    watch->callback(events[static_cast<size_t>(i)].events);
  }
  fire_timers();
  return {};
}

Result<void> EventLoop::run() {
  while (!stopped_) TRY(run_once());
  return {};
}

}  // namespace hull::guest
