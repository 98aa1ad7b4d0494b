#include "vmm/vcpu_thread.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/error_format.h"

namespace hull::vmm {

namespace {
constexpr size_t kStackBytes = 256 << 10;  // address space; only what is touched counts

int kick_signal() { return SIGRTMIN; }
}  // namespace

Result<void> install_kick_handler() {
  struct sigaction action{};
  action.sa_handler = [](int) {};  // its arrival is enough: KVM_RUN returns
  if (::sigaction(kick_signal(), &action, nullptr) != 0) return errno_error("handle the processors' signal");
  return {};
}

void PauseControl::set(bool paused) {
  {
    const std::lock_guard lock(mutex_);
    wanted_.store(paused, std::memory_order_seq_cst);
  }
  changed_.notify_all();
}

void PauseControl::wait(const StopControl& stop, const std::atomic<bool>& held) {
  std::unique_lock lock(mutex_);
  if (!wanted() && !held) return;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return (!wanted() && !held) || stop.reason() != StopReason::kNone; });
  --waiting_;
}

void PauseControl::wait_for(uint32_t count, const StopControl& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_ >= count || stop.reason() != StopReason::kNone; });
}

void PauseControl::wake() {
  {
    const std::lock_guard lock(mutex_);
  }
  changed_.notify_all();
}

Result<std::unique_ptr<DebugStops>> DebugStops::create() {
  auto made = std::make_unique<DebugStops>();
  made->event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made->event_) return errno_error("make an eventfd");
  return made;
}

void DebugStops::add(const Stop& stop) {
  const std::lock_guard lock(mutex_);
  stops_.push_back(stop);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(event_.get(), &one, sizeof(one));
}

std::optional<DebugStops::Stop> DebugStops::take() {
  const std::lock_guard lock(mutex_);
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t done = ::read(event_.get(), &count, sizeof(count));
  if (stops_.empty()) return std::nullopt;
  const Stop first = stops_.front();
  stops_.pop_front();
  return first;
}

Result<void> VcpuThread::start(std::function<void()> prepare) {
  prepare_ = std::move(prepare);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Only the kick reaches a processor's thread; the rest is the main thread's. The new thread inherits the mask.
  sigset_t mask, before;
  sigfillset(&mask);
  sigdelset(&mask, kick_signal());
  pthread_sigmask(SIG_SETMASK, &mask, &before);
  const int error = pthread_create(&thread_, &attributes, &VcpuThread::main, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) return Error::from_errno(error, fmt::format("start the thread of virtual processor {}", vcpu_.id()));
  started_ = true;
  return {};
}

void VcpuThread::kick() {
  if (!started_) return;
  // The flag makes KVM_RUN return at once when the signal comes just before it.
  __atomic_store_n(&vcpu_.shared().immediate_exit, 1, __ATOMIC_SEQ_CST);
  pthread_kill(thread_, kick_signal());
}

void VcpuThread::join() {
  if (!started_) return;
  pthread_join(thread_, nullptr);
  started_ = false;
}

void* VcpuThread::main(void* self) {
  auto* thread = static_cast<VcpuThread*>(self);
  ::prctl(PR_SET_NAME, fmt::format("hull-vcpu{}", thread->vcpu_.id()).c_str());
  if (thread->prepare_) thread->prepare_();
  thread->loop();
  return nullptr;
}

void VcpuThread::loop() {
  for (;;) {
    // Cleared before the controls are read: a kick that comes in between has set them already.
    __atomic_store_n(&vcpu_.shared().immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (stop_->reason() != StopReason::kNone) return;
    if (pause_->wanted() || held_) {
      pause_->wait(*stop_, held_);
      continue;
    }
    const int error = vcpu_.run();
    if (error == EINTR || error == EAGAIN) continue;
    if (error != 0) return fail(Error::from_errno(error, "KVM_RUN").message());
    if (!handle_exit()) return;
  }
}

void VcpuThread::fail(const std::string& what) {
  std::string detail = fmt::format("virtual processor {}: {}", vcpu_.id(), what);
  if (const Result<kvm_regs> regs = vcpu_.regs(); regs.ok()) {
    detail += fmt::format(" at instruction {:#x}", regs->rip);
  }
  stop_->stop(StopReason::kFailure, std::move(detail));
}

void VcpuThread::handle_port() {
  kvm_run& run = vcpu_.shared();
  auto* data = reinterpret_cast<std::byte*>(&run) + run.io.data_offset;
  for (uint32_t i = 0; i < run.io.count; ++i, data += run.io.size) {
    if (run.io.direction == KVM_EXIT_IO_OUT) {
      ports_->write(run.io.port, {data, run.io.size});
    } else {
      ports_->read(run.io.port, {data, run.io.size});
    }
  }
}

void VcpuThread::stop_for_debugger(const kvm_debug_exit_arch& exit) {
  pause_->set(true);
  debug_stops_->add({vcpu_.id(), exit});
}

/// True when KVM could not emulate an `int3`, which is told to the debugger then.
bool VcpuThread::at_breakpoint() {
  constexpr uint8_t kInt3 = 0xcc;
  constexpr uint32_t kBreakpointException = 3;
  const kvm_run& run = vcpu_.shared();
  const auto& failure = run.emulation_failure;
  if (failure.suberror != KVM_INTERNAL_ERROR_EMULATION || failure.ndata < 3) return false;
  if ((failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) == 0) return false;
  if (failure.insn_size == 0 || failure.insn_bytes[0] != kInt3) return false;
  const Result<kvm_regs> regs = vcpu_.regs();
  if (!regs.ok()) return false;
  kvm_debug_exit_arch exit{};
  exit.exception = kBreakpointException;
  exit.pc = regs->rip;
  stop_for_debugger(exit);
  return true;
}

bool VcpuThread::handle_exit() {
  kvm_run& run = vcpu_.shared();
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      exits_.port.fetch_add(1, std::memory_order_relaxed);
      handle_port();
      return true;
    case KVM_EXIT_MMIO: {
      exits_.memory.fetch_add(1, std::memory_order_relaxed);
      auto* data = reinterpret_cast<std::byte*>(run.mmio.data);
      if (run.mmio.len > sizeof(run.mmio.data)) return true;
      if (run.mmio.is_write != 0) {
        memory_->write(run.mmio.phys_addr, {data, run.mmio.len});
      } else {
        memory_->read(run.mmio.phys_addr, {data, run.mmio.len});
      }
      return true;
    }
    case KVM_EXIT_INTR:
      return true;
    case KVM_EXIT_SHUTDOWN:
      stop_->stop(StopReason::kTripleFault);
      return false;
    case KVM_EXIT_SYSTEM_EVENT:
      stop_->stop(run.system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? StopReason::kPowerOff : StopReason::kReset);
      return false;
    case KVM_EXIT_FAIL_ENTRY:
      fail(fmt::format("the host's processor refuses to enter the guest (reason {:#x})",
                       run.fail_entry.hardware_entry_failure_reason));
      return false;
    case KVM_EXIT_DEBUG:
      if (debug_stops_ == nullptr) {
        fail("KVM stopped it for a debugger that nobody asked for");
        return false;
      }
      stop_for_debugger(run.debug.arch);
      return true;
    case KVM_EXIT_INTERNAL_ERROR:
      // A KVM that emulates the guest's kernel has no int3; the debugger's are told to it all the same.
      if (debug_stops_ != nullptr && at_breakpoint()) return true;
      fail(fmt::format(
          "KVM can't go on (internal error {}){}", run.internal.suberror,
          run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? ": it can't emulate an instruction" : ""));
      return false;
    default:
      exits_.other.fetch_add(1, std::memory_order_relaxed);
      fail(fmt::format("KVM left the guest for reason {}, which this machine does not know", run.exit_reason));
      return false;
  }
}

}  // namespace hull::vmm
