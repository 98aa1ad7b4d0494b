#pragma once
// One thread of a device: an epoll loop whose descriptors are named by keys, so that an event of something that has
// gone meanwhile finds nothing instead of a stale pointer. The thread is named "hull-<kind>", blocks all signals, and
// calls the thread hook first, where hull-vmm installs the system-call filter of that kind of thread.

#include <pthread.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

/// What runs in a worker's thread. None of these is called from elsewhere.
class WorkerClient {
 public:
  virtual ~WorkerClient() = default;
  /// First of all, before the thread hook takes system calls away.
  virtual void on_thread() {}
  /// Once, before any event; also when stop() was called before the thread ran, so that every started worker has
  /// looked at its queues once.
  virtual void on_start() = 0;
  /// Events of the descriptor that was watched under the key.
  virtual void on_event(uint64_t key, uint32_t events) = 0;
  /// After each batch of events. True: there is more to do, look for events without waiting and call again.
  virtual bool after_events() = 0;
};

/// Called at the start of each worker's thread with its kind ("vsock", "block", ...). Set before any worker starts.
void set_worker_thread_hook(void (*hook)(std::string_view kind));

/// Owns the thread; the destructor stops it. start, stop: one caller at a time. watch, change, unwatch: any thread.
class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() { stop(); }

  /// Makes the epoll descriptor; watch() works from here on.
  Result<void> prepare();
  /// Starts the thread. `kind` has at most 10 characters; the client outlives the thread.
  Result<void> start(std::string_view kind, WorkerClient* client);
  /// Ends and joins the thread; nothing when there is none. Everything watched is forgotten.
  void stop();

  /// Events as epoll_ctl(2) takes them; the key may be anything but kStopKey. The descriptor stays the caller's.
  Result<void> watch(int fd, uint32_t events, uint64_t key);
  Result<void> change(int fd, uint32_t events, uint64_t key);
  void unwatch(int fd);

  /// From the worker's own thread: looks at nothing but stop() from here on.
  void stop_watching() { only_stop_ = true; }

  static constexpr uint64_t kStopKey = ~0ull;

 private:
  static void* main(void* self);
  void run();

  WorkerClient* client_ = nullptr;
  std::string kind_;
  pthread_t thread_{};
  bool running_ = false;
  bool only_stop_ = false;
  UniqueFd epoll_, stop_event_;
};

/// An eventfd, close-on-exec and non-blocking.
Result<UniqueFd> make_event();
/// Adds one to an eventfd. A full or foreign descriptor is no failure of ours.
void signal_event(int fd);
/// Resets an eventfd (or timerfd); false when it was not signalled.
bool clear_event(int fd);

}  // namespace hull::vmm
