#pragma once
// The debugger's end of a running machine: a listening socket, one debugger at a time, and a Machine as GdbTarget. Runs
// in the main thread. The guest does not begin before a debugger has said so; when the debugger goes, the guest goes
// on.

#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/gdb.h"
#include "vmm/machine.h"

namespace hull::vmm {

class GdbStub final : public GdbTarget {
 public:
  /// `where`: "unix:PATH" (mode 0600) or "tcp:127.0.0.1:PORT"; kInvalid for anything else, other addresses too.
  /// Events are watched through `epoll` under keys from kFirstKey to kLastKey. Before the machine starts.
  static Result<std::unique_ptr<GdbStub>> listen(const std::string& where, Machine* machine, int epoll);
  static constexpr uint64_t kFirstKey = 1 << 8, kLastKey = kFirstKey + 2;

  void on_event(uint64_t key);
  /// Tells the debugger that the machine has ended.
  void tell_end();
  /// True while a debugger keeps the guest from running.
  bool holds() const { return session_ && !session_->running(); }

  uint32_t processors() const override { return machine_->processors(); }
  void pause() override { machine_->pause(); }
  Result<void> resume(std::span<const GdbAction> actions, std::span<const HardwareBreak> breaks) override;
  Result<void> release() override;
  Result<GdbState> state(uint32_t processor) override;
  Result<void> set_state(uint32_t processor, const GdbState& state) override;
  bool read_memory(uint32_t processor, uint64_t address, std::span<std::byte> out) override;
  bool write_memory(uint32_t processor, uint64_t address, std::span<const std::byte> in) override;
  void pass_breakpoint(uint32_t processor) override { passing_.push_back(processor); }
  void end() override { machine_->stop_control().stop(StopReason::kRequest); }

 private:
  enum Key : uint64_t { kListener = kFirstKey, kPeer, kStops };
  GdbStub(Machine* machine, int epoll, UniqueFd listener)
      : machine_(machine), epoll_(epoll), listener_(std::move(listener)) {}
  Result<void> watch(int fd, uint64_t key) const;
  void accept();
  void receive();
  void take_stop();
  void send();
  void drop();

  Machine* machine_;
  int epoll_;
  UniqueFd listener_, peer_;
  DebugStops* stops_ = nullptr;
  std::optional<GdbSession> session_;
  std::vector<uint32_t> passing_;
};

}  // namespace hull::vmm
