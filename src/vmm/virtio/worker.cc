#include "vmm/virtio/worker.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <array>
#include <csignal>

#include "base/error_format.h"

namespace hull::vmm {

namespace {

// Devices keep nothing big on the stack; only touched pages count.
constexpr size_t kStackBytes = 256 << 10;

void (*thread_hook)(std::string_view) = nullptr;

}  // namespace

void set_worker_thread_hook(void (*hook)(std::string_view kind)) { thread_hook = hook; }

Result<UniqueFd> make_event() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return errno_error("make an eventfd");
  return event;
}

void signal_event(int fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
}

bool clear_event(int fd) {
  uint64_t count = 0;
  return ::read(fd, &count, sizeof count) == sizeof count;
}

Result<void> Worker::prepare() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return errno_error("make an epoll descriptor");
  TRY_ASSIGN(stop_event_, make_event());
  return watch(stop_event_.get(), EPOLLIN, kStopKey);
}

Result<void> Worker::start(std::string_view kind, WorkerClient* client) {
  client_ = client;
  kind_ = kind;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // The thread inherits the mask, so that no signal is ever handled in it.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(&thread_, &attributes, &Worker::main, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) return Error::from_errno(error, "start a thread for device " + kind_);
  running_ = true;
  return {};
}

void Worker::stop() {
  if (running_) {
    signal_event(stop_event_.get());
    pthread_join(thread_, nullptr);
    running_ = false;
  }
  epoll_.reset();
  stop_event_.reset();
}

Result<void> Worker::watch(int fd, uint32_t events, uint64_t key) {
  epoll_event event{.events = events, .data = {.u64 = key}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("watch a descriptor");
  return {};
}

Result<void> Worker::change(int fd, uint32_t events, uint64_t key) {
  epoll_event event{.events = events, .data = {.u64 = key}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return errno_error("watch a descriptor");
  return {};
}

void Worker::unwatch(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void* Worker::main(void* self) {
  auto* worker = static_cast<Worker*>(self);
  const std::string name = "hull-" + worker->kind_;
  ::prctl(PR_SET_NAME, name.c_str());
  worker->client_->on_thread();
  if (thread_hook != nullptr) thread_hook(worker->kind_);
  worker->run();
  return nullptr;
}

void Worker::run() {
  client_->on_start();
  bool more = client_->after_events();
  std::array<epoll_event, 64> events;
  while (!only_stop_) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), more ? 0 : -1);
    if (count < 0 && errno != EINTR) return;
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 == kStopKey) return;
      client_->on_event(events[i].data.u64, events[i].events);
    }
    more = client_->after_events();
  }
  pollfd wait{stop_event_.get(), POLLIN, 0};
  while (::poll(&wait, 1, -1) <= 0) {
  }
}

}  // namespace hull::vmm
