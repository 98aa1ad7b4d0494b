#include "vmm/gdb_registers.h"

#include <algorithm>
#include <cstring>

#include "base/error_format.h"

namespace hull::vmm {

namespace {
/// A register: where its value lies in a GdbState, and how much of it.
struct Register {
  std::string name, type;
  size_t offset = 0;
  size_t held = 0;   // bytes there
  size_t shown = 0;  // bytes that GDB sees; what is not held reads as zero
  bool writable = true;
};

enum Feature : size_t { kCore, kSse, kSegments, kSystem, kFeatures };
constexpr const char* kFeatureNames[kFeatures] = {"org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse",
                                                  "org.gnu.gdb.i386.segments", "hull.system"};

struct Table {
  std::vector<Register> all;
  size_t first[kFeatures + 1] = {};
};

void add_core(std::vector<Register>& out) {
  constexpr size_t kRegs = offsetof(GdbState, regs), kSregs = offsetof(GdbState, sregs), kFpu = offsetof(GdbState, fpu);
  const struct {
    const char* name;
    size_t offset;
  } general[] = {{"rax", offsetof(kvm_regs, rax)}, {"rbx", offsetof(kvm_regs, rbx)}, {"rcx", offsetof(kvm_regs, rcx)},
                 {"rdx", offsetof(kvm_regs, rdx)}, {"rsi", offsetof(kvm_regs, rsi)}, {"rdi", offsetof(kvm_regs, rdi)},
                 {"rbp", offsetof(kvm_regs, rbp)}, {"rsp", offsetof(kvm_regs, rsp)}, {"r8", offsetof(kvm_regs, r8)},
                 {"r9", offsetof(kvm_regs, r9)},   {"r10", offsetof(kvm_regs, r10)}, {"r11", offsetof(kvm_regs, r11)},
                 {"r12", offsetof(kvm_regs, r12)}, {"r13", offsetof(kvm_regs, r13)}, {"r14", offsetof(kvm_regs, r14)},
                 {"r15", offsetof(kvm_regs, r15)}};
  for (const auto& one : general) out.push_back({one.name, "int64", kRegs + one.offset, 8, 8});
  out.push_back({"rip", "code_ptr", kRegs + offsetof(kvm_regs, rip), 8, 8});
  out.push_back({"eflags", "int32", kRegs + offsetof(kvm_regs, rflags), 4, 4});
  const struct {
    const char* name;
    size_t offset;
  } segments[] = {{"cs", offsetof(kvm_sregs, cs)}, {"ss", offsetof(kvm_sregs, ss)}, {"ds", offsetof(kvm_sregs, ds)},
                  {"es", offsetof(kvm_sregs, es)}, {"fs", offsetof(kvm_sregs, fs)}, {"gs", offsetof(kvm_sregs, gs)}};
  for (const auto& one : segments) {
    out.push_back({one.name, "int32", kSregs + one.offset + offsetof(kvm_segment, selector), 2, 4, false});
  }
  for (size_t i = 0; i < 8; ++i) {
    out.push_back({fmt::format("st{}", i), "i387_ext", kFpu + offsetof(kvm_fpu, fpr) + 16 * i, 10, 10});
  }
  out.push_back({"fctrl", "int32", kFpu + offsetof(kvm_fpu, fcw), 2, 4});
  out.push_back({"fstat", "int32", kFpu + offsetof(kvm_fpu, fsw), 2, 4});
  out.push_back({"ftag", "int32", kFpu + offsetof(kvm_fpu, ftwx), 1, 4});
  // The kernel gives instruction and data pointer as they are in 64-bit mode, without selectors.
  for (const char* name : {"fiseg", "fioff", "foseg", "fooff"}) out.push_back({name, "int32", 0, 0, 4, false});
  out.push_back({"fop", "int32", kFpu + offsetof(kvm_fpu, last_opcode), 2, 4});
}

Table make_table() {
  constexpr size_t kSregs = offsetof(GdbState, sregs), kFpu = offsetof(GdbState, fpu);
  Table table;
  std::vector<Register>& out = table.all;
  add_core(out);
  table.first[kSse] = out.size();
  for (size_t i = 0; i < 16; ++i) {
    out.push_back({fmt::format("xmm{}", i), "uint128", kFpu + offsetof(kvm_fpu, xmm) + 16 * i, 16, 16});
  }
  out.push_back({"mxcsr", "int32", kFpu + offsetof(kvm_fpu, mxcsr), 4, 4});
  table.first[kSegments] = out.size();
  for (const auto& [name, segment] :
       {std::pair{"fs_base", offsetof(kvm_sregs, fs)}, {"gs_base", offsetof(kvm_sregs, gs)}}) {
    out.push_back({name, "int64", kSregs + segment + offsetof(kvm_segment, base), 8, 8});
  }
  table.first[kSystem] = out.size();
  for (const auto& [name, offset] : {std::pair{"cr0", offsetof(kvm_sregs, cr0)},
                                     {"cr2", offsetof(kvm_sregs, cr2)},
                                     {"cr3", offsetof(kvm_sregs, cr3)},
                                     {"cr4", offsetof(kvm_sregs, cr4)},
                                     {"cr8", offsetof(kvm_sregs, cr8)},
                                     {"efer", offsetof(kvm_sregs, efer)}}) {
    out.push_back({name, "int64", kSregs + offset, 8, 8, false});
  }
  table.first[kFeatures] = out.size();
  return table;
}

const Table& table() {
  static const Table made = make_table();
  return made;
}

std::string describe() {
  std::string out = "<?xml version=\"1.0\"?><target version=\"1.0\"><architecture>i386:x86-64</architecture>";
  for (size_t feature = 0; feature < kFeatures; ++feature) {
    out += fmt::format("<feature name=\"{}\">", kFeatureNames[feature]);
    for (size_t i = table().first[feature]; i < table().first[feature + 1]; ++i) {
      const Register& one = table().all[i];
      out += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"/>", one.name, 8 * one.shown,
                         one.type, i);
    }
    out += "</feature>";
  }
  return out + "</target>";
}
}  // namespace

const std::string& gdb_target_description() {
  static const std::string made = describe();
  return made;
}

size_t gdb_register_count() { return table().all.size(); }

std::vector<std::byte> gdb_read_register(const GdbState& state, size_t number) {
  if (number >= gdb_register_count()) return {};
  const Register& one = table().all[number];
  std::vector<std::byte> out(one.shown);
  std::memcpy(out.data(), reinterpret_cast<const std::byte*>(&state) + one.offset, one.held);
  return out;
}

bool gdb_write_register(GdbState* state, size_t number, std::span<const std::byte> value) {
  if (number >= gdb_register_count() || value.size() != table().all[number].shown) return false;
  const Register& one = table().all[number];
  if (!one.writable) return std::ranges::equal(gdb_read_register(*state, number), value);
  std::memcpy(reinterpret_cast<std::byte*>(state) + one.offset, value.data(), one.held);
  return true;
}

}  // namespace hull::vmm
