#pragma once
// One virtual processor in a thread of its own: runs the guest, answers its exits, can be paused and stopped.

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
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
  /// The calling processor waits while a pause is wanted, or it is held, and nothing stops the machine.
  void wait(const StopControl& stop, const std::atomic<bool>& held);
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

/// Processors that met a breakpoint or made a step, for the debugger's stub.
class DebugStops {
 public:
  struct Stop {
    uint32_t processor = 0;
    kvm_debug_exit_arch exit{};
  };
  static Result<std::unique_ptr<DebugStops>> create();
  /// Any processor.
  void add(const Stop& stop);
  /// The oldest; std::nullopt when there is none.
  std::optional<Stop> take();
  /// Becomes readable when there is one.
  int fd() const { return event_.get(); }

 private:
  UniqueFd event_;
  std::mutex mutex_;
  std::deque<Stop> stops_;
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
  /// Debug exits pause the machine and are told there; without it they are failures. Before start().
  void debug_with(DebugStops* stops) { debug_stops_ = stops; }
  /// A held processor stays paused when the others go on. While paused.
  void hold(bool held) { held_.store(held); }
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
  bool at_breakpoint();
  void stop_for_debugger(const kvm_debug_exit_arch& exit);
  void fail(const std::string& what);

  Vcpu vcpu_;
  const Bus* ports_;
  const Bus* memory_;
  StopControl* stop_;
  PauseControl* pause_;
  DebugStops* debug_stops_ = nullptr;
  std::atomic<bool> held_ = false;
  std::function<void()> prepare_;
  ExitCounts exits_;
  pthread_t thread_{};
  bool started_ = false;
};

/// Installs the handler of the signal that kick() sends. Once, before any processor starts.
Result<void> install_kick_handler();

}  // namespace hull::vmm
