#pragma once
// The registers of an x86-64 processor in the order and sizes that GDB's features org.gnu.gdb.i386.core, .sse and
// .segments give them, and the description that tells GDB so.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/gdb.h"

namespace hull::vmm {

/// The document "target.xml".
const std::string& gdb_target_description();
size_t gdb_register_count();
/// The bytes of a register, little-endian, of the register's size; empty: there is no such register.
std::vector<std::byte> gdb_read_register(const GdbState& state, size_t number);
/// False: there is no such register, the size is another, or it can't be written and the value differs.
bool gdb_write_register(GdbState* state, size_t number, std::span<const std::byte> value);

}  // namespace hull::vmm
