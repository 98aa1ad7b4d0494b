#pragma once
// What a program with one thread waits for, gathered anew for each turn of its loop.

#include <poll.h>

#include <functional>
#include <vector>

#include "base/error.h"

namespace hull::vm {

class PollSet {
 public:
  using Action = std::function<void(short revents)>;

  void clear() {
    polled_.clear();
    actions_.clear();
  }
  void add(int fd, short events, Action action) {
    if (fd < 0) return;
    polled_.push_back({fd, events, 0});
    actions_.push_back(std::move(action));
  }
  /// Waits at most `timeout_ms` (-1: for ever) and calls what is ready. An action must not touch what another one's
  /// descriptor belongs to, unless it tells that other one: all were asked before.
  Result<void> wait(int timeout_ms) {
    const int ready = ::poll(polled_.data(), polled_.size(), timeout_ms);
    if (ready < 0) {
      if (errno == EINTR) return {};
      return errno_error("poll");
    }
    for (size_t i = 0; i < polled_.size(); ++i) {
      if (polled_[i].revents != 0) actions_[i](polled_[i].revents);
    }
    return {};
  }

 private:
  std::vector<pollfd> polled_;
  std::vector<Action> actions_;
};

}  // namespace hull::vm
