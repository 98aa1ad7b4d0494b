#pragma once
// One virtual processor in a thread of its own: runs the guest, answers its exits, can be paused and stopped.

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "vmm/bus.h"
#include "vmm/kvm.h"
#include "vmm/stop.h"

namespace hull::vmm {

/// Makes running processors leave the guest and wait, and lets them go on.
class PauseControl {
 public:
  bool wanted() const { return wanted_.load(std::memory_order_seq_cst); }
  void set(bool paused);
  /// The calling processor waits while a pause is wanted and nothing stops the machine.
  void wait(const StopControl& stop);
  /// Waits until `count` processors wait (or the machine stops).
  void wait_for(uint32_t count, const StopControl& stop);
  /// Lets everybody look again, after a stop.
  void wake();

 private:
  std::atomic<bool> wanted_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t waiting_ = 0;
};

/// Counts of one processor's exits; read by other threads at any time.
struct ExitCounts {
  std::atomic<uint64_t> port{0}, memory{0}, other{0};
};

class VcpuThread {
 public:
  VcpuThread(Vcpu vcpu, const Bus* ports, const Bus* memory, StopControl* stop, PauseControl* pause)
      : vcpu_(std::move(vcpu)), ports_(ports), memory_(memory), stop_(stop), pause_(pause) {}
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread() { join(); }

  Vcpu& vcpu() { return vcpu_; }
  /// `prepare` runs first in the new thread (its system-call filter).
  Result<void> start(std::function<void()> prepare);
  /// Makes the processor leave the guest soon and look at the stop and pause controls. Any thread.
  void kick();
  void join();
  const ExitCounts& exits() const { return exits_; }

 private:
  static void* main(void* self);
  void loop();
  /// False when the machine can't go on.
  bool handle_exit();
  void handle_port();
  void fail(const std::string& what);

  Vcpu vcpu_;
  const Bus* ports_;
  const Bus* memory_;
  StopControl* stop_;
  PauseControl* pause_;
  std::function<void()> prepare_;
  ExitCounts exits_;
  pthread_t thread_{};
  bool started_ = false;
};

/// Installs the handler of the signal that kick() sends. Once, before any processor starts.
Result<void> install_kick_handler();

}  // namespace hull::vmm
