#pragma once
// A machine of plain memory for tests of the debugger's protocol. Included by tests and fuzz targets only.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "vmm/gdb.h"

namespace hull::vmm {

class FakeGdbTarget final : public GdbTarget {
 public:
  static constexpr uint64_t kBase = 0x1000;
  uint32_t processors() const override { return 2; }
  void pause() override { log += "pause "; }
  Result<void> resume(std::span<const GdbAction> actions, std::span<const HardwareBreak> breaks) override {
    for (const GdbAction action : actions) log += "hcs"[static_cast<size_t>(action)];
    log += "+" + std::to_string(breaks.size()) + " ";
    return {};
  }
  Result<void> release() override {
    log += "release ";
    return {};
  }
  Result<GdbState> state(uint32_t processor) override { return states[processor]; }
  Result<void> set_state(uint32_t processor, const GdbState& state) override {
    states[processor] = state;
    return {};
  }
  bool read_memory(uint32_t, uint64_t address, std::span<std::byte> out) override {
    if (!inside(address, out.size())) return false;
    std::copy_n(memory.begin() + static_cast<ptrdiff_t>(address - kBase), out.size(), out.begin());
    return true;
  }
  bool write_memory(uint32_t, uint64_t address, std::span<const std::byte> in) override {
    if (!inside(address, in.size())) return false;
    std::ranges::copy(in, memory.begin() + static_cast<ptrdiff_t>(address - kBase));
    return true;
  }
  void pass_breakpoint(uint32_t processor) override { log += "pass" + std::to_string(processor) + " "; }
  void end() override { log += "end "; }

  std::vector<std::byte> memory = std::vector<std::byte>(4096);
  GdbState states[2];
  std::string log;

 private:
  bool inside(uint64_t address, size_t size) const {
    return address >= kBase && address - kBase <= memory.size() && size <= memory.size() - (address - kBase);
  }
};

}  // namespace hull::vmm
