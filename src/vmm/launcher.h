#pragma once
// A thread that starts and stops the devices' threads, so that those inherit its system-call filter and not the much
// narrower one of the virtual processor whose guest asked for it.

#include <pthread.h>

#include <condition_variable>
#include <functional>
#include <mutex>

#include "base/error.h"

namespace hull::vmm {

class Launcher {
 public:
  Launcher() = default;
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  ~Launcher() { stop(); }

  /// `prepare` runs first in the thread, and has run when this returns.
  Result<void> start(std::function<void()> prepare);
  /// Runs the work in the launcher's thread and waits for it. Any thread but its own; in the caller's after stop().
  void run(const std::function<void()>& work);
  void stop();

 private:
  static void* main(void* self);
  void loop();

  std::mutex callers_;  // one piece of work at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* work_ = nullptr;
  bool ready_ = false, ending_ = false, started_ = false;
  std::function<void()> prepare_;
  pthread_t thread_{};
};

}  // namespace hull::vmm
