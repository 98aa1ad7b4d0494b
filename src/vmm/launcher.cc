#include "vmm/launcher.h"

#include <sys/prctl.h>

#include <csignal>

namespace hull::vmm {

Result<void> Launcher::start(std::function<void()> prepare) {
  prepare_ = std::move(prepare);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(&thread_, nullptr, &Launcher::main, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return Error::from_errno(error, "start the thread that starts devices");
  started_ = true;
  // Nobody goes on before the thread has done what it is to do first.
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ready_; });
  return {};
}

void Launcher::run(const std::function<void()>& work) {
  const std::lock_guard one(callers_);
  std::unique_lock lock(mutex_);
  if (!started_ || ending_) {
    lock.unlock();
    return work();
  }
  work_ = &work;
  changed_.notify_all();
  changed_.wait(lock, [&] { return work_ == nullptr; });
}

void Launcher::stop() {
  if (!started_) return;
  const std::lock_guard one(callers_);
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  pthread_join(thread_, nullptr);
  started_ = false;
}

void* Launcher::main(void* self) {
  auto* launcher = static_cast<Launcher*>(self);
  ::prctl(PR_SET_NAME, "hull-launcher");
  if (launcher->prepare_) launcher->prepare_();
  launcher->loop();
  return nullptr;
}

void Launcher::loop() {
  std::unique_lock lock(mutex_);
  ready_ = true;
  changed_.notify_all();
  for (;;) {
    changed_.wait(lock, [&] { return work_ != nullptr || ending_; });
    if (work_ == nullptr) return;
    const std::function<void()>* work = work_;
    lock.unlock();
    (*work)();
    lock.lock();
    work_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace hull::vmm
