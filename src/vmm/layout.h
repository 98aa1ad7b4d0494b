#pragma once
// Where things lie in the guest's physical address space and its I/O ports, and which interrupt lines they have.

#include <cstdint>

namespace hull::vmm::layout {

// What the first megabyte holds at the start: all of it is the guest's to overwrite once it has read it.
inline constexpr uint64_t kGdt = 0x500;
inline constexpr uint64_t kStartInfo = 0x6000;
inline constexpr uint64_t kModuleList = 0x6100;
inline constexpr uint64_t kMemoryMap = 0x7000;
inline constexpr uint64_t kCommandLine = 0x20000;
inline constexpr uint64_t kEndOfConventional = 0xa0000;
/// RSDP first, where a guest without PVH would search for it; the other tables follow.
inline constexpr uint64_t kAcpi = 0xe0000;
inline constexpr uint64_t kAcpiEnd = 0xff000;
/// A byte for each slot of a device that may come later: whether it is there; and behind them one each: look again.
inline constexpr uint64_t kSlotStates = 0xff000;
inline constexpr size_t kMostSlots = 8;
/// Where a processor begins after a reset, as real-mode code jumps to it (FFFF:0000).
inline constexpr uint64_t kResetVector = 0xffff0;
inline constexpr uint64_t kHighMemory = 0x100000;

// Memory ends at 3 GiB and goes on at 4 GiB: between them lie the devices.
inline constexpr uint64_t kHoleStart = 0xc0000000;
inline constexpr uint64_t kHoleEnd = 0x100000000;
inline constexpr uint64_t kVirtioWindows = 0xd0000000;
inline constexpr uint64_t kVirtioWindowSize = 0x1000;
/// Persistent memory lies behind all other memory, each piece on a boundary that lets Linux map it in large pages.
inline constexpr uint64_t kPersistentAlignment = 1ull << 30;
inline constexpr uint64_t kIoApic = 0xfec00000;
inline constexpr uint64_t kLocalApic = 0xfee00000;
/// A page table and a task state segment that KVM wants on Intel without unrestricted guest; never read by the guest.
inline constexpr uint64_t kIdentityMap = 0xfffbc000;
inline constexpr uint64_t kTaskState = 0xfffbd000;

// I/O ports.
inline constexpr uint16_t kCmosPort = 0x70;
inline constexpr uint16_t kKeyboardPort = 0x60;
inline constexpr uint16_t kSerialPort = 0x3f8;
inline constexpr uint16_t kPowerPort = 0x600;  ///< sleep control, sleep status, reset (power.h)

// Pins of the one IOAPIC; all are edge triggered, active high.
inline constexpr uint32_t kIoApicPins = 24;
inline constexpr uint32_t kSerialIrq = 4;
inline constexpr uint32_t kPowerButtonIrq = 9;
inline constexpr uint32_t kSlotIrq = 13;  ///< devices have come or gone
/// For virtio devices, in this order. 0 to 2 and 8 have a history and are left alone.
inline constexpr uint32_t kVirtioIrqs[] = {5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 3};

}  // namespace hull::vmm::layout
