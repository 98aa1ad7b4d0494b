#pragma once
// The GDB remote serial protocol (GDB manual, appendix E) for guests: packets, and what they ask of a machine. Virtual
// processors are threads; thread N is processor N-1. All-stop only: when one stops, all do.
//
// The peer is the user's own debugger, but what it sends is bounded and checked all the same.

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vmm {

/// All that GDB sees of a processor.
struct GdbState {
  kvm_regs regs{};
  kvm_sregs sregs{};
  kvm_fpu fpu{};
};

/// What a processor is to do when the machine goes on.
enum class GdbAction : uint8_t { kHold, kContinue, kStep };

enum class GdbBreak : uint8_t { kHardware = 1, kWrite = 2, kRead = 3, kAccess = 4 };
struct HardwareBreak {
  GdbBreak kind = GdbBreak::kHardware;
  uint64_t address = 0;
  uint8_t length = 1;
};
/// The processors of x86 have as many debug registers for addresses.
inline constexpr size_t kHardwareBreaks = 4;

/// A machine as the stub needs it. While the machine runs only pause() and end() are called.
class GdbTarget {
 public:
  virtual ~GdbTarget() = default;
  virtual uint32_t processors() const = 0;
  /// Returns when no processor runs any more.
  virtual void pause() = 0;
  virtual Result<void> resume(std::span<const GdbAction> actions, std::span<const HardwareBreak> breaks) = 0;
  /// No more debugging: all go on.
  virtual Result<void> release() = 0;
  virtual Result<GdbState> state(uint32_t processor) = 0;
  virtual Result<void> set_state(uint32_t processor, const GdbState& state) = 0;
  /// By addresses as the processor's page tables have them now. False when any byte is not there.
  virtual bool read_memory(uint32_t processor, uint64_t address, std::span<std::byte> out) = 0;
  virtual bool write_memory(uint32_t processor, uint64_t address, std::span<const std::byte> in) = 0;
  /// The next `int3` at the processor's place is the guest's own and not to be intercepted.
  virtual void pass_breakpoint(uint32_t processor) = 0;
  virtual void end() = 0;
};

/// Why the machine has stopped.
struct GdbStop {
  uint32_t processor = 0;
  uint64_t pc = 0;
  uint64_t dr6 = 0;          ///< which debug register matched
  bool instruction = false;  ///< an `int3`, not the debug exception
};

/// The protocol on its own: bytes in, bytes out. The machine has been paused before it is made.
class GdbSession {
 public:
  explicit GdbSession(GdbTarget* target) : target_(target) {}
  /// Everything that the debugger sends, in pieces of any size. False when the connection is to be closed.
  bool receive(std::string_view bytes);
  /// A processor has met a breakpoint or made its step; the machine is paused again.
  void stopped(const GdbStop& stop);
  /// The machine has ended.
  void ended();
  /// What is to be sent; the caller takes it.
  std::string& output() { return output_; }
  bool running() const { return running_; }
  /// The debugger has gone or let go: takes its breakpoints out of the guest and lets it run.
  void detach();

  static constexpr size_t kLargestPacket = 16 << 10;

 private:
  void command(std::string_view packet);
  void send(std::string_view payload);
  void send_stop();
  void error(int number = 1);
  void query(std::string_view packet);
  void features(std::string_view annex_and_range);
  void select(std::string_view packet);
  void read_registers();
  void write_registers(std::string_view hex);
  void read_register(std::string_view packet);
  void write_register(std::string_view packet);
  void read_memory(std::string_view packet);
  void write_memory(std::string_view packet, bool binary);
  void change_break(std::string_view packet, bool insert);
  bool change_instruction(uint64_t address, bool insert);
  bool change_hardware(const HardwareBreak& wanted, bool insert);
  void resume_command(std::string_view packet);
  void resume_each(std::string_view actions);
  void go(std::vector<GdbAction> actions);
  std::optional<uint32_t> thread(std::string_view text) const;

  struct Instruction {
    uint64_t address = 0;
    std::byte replaced{};
  };

  GdbTarget* target_;
  std::string input_, output_;
  bool acknowledges_ = true, running_ = false, detached_ = false, knows_breaks_ = false;
  uint32_t selected_ = 0;  // for registers and memory
  int64_t resumed_ = -1;   // for c and s; -1: all
  std::string stop_reply_ = "T05thread:1;";
  std::vector<uint32_t> passing_;  // processors that stand before an int3 of the guest's own
  std::vector<Instruction> instructions_;
  std::vector<HardwareBreak> hardware_;
};

}  // namespace hull::vmm
