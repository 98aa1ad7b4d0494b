#include "vmm/acpi.h"

#include <cstring>
#include <string>

#include "base/error_format.h"
#include "vmm/aml.h"
#include "vmm/layout.h"
#include "vmm/power.h"

namespace hull::vmm {

namespace {
constexpr size_t kHeaderBytes = 36;
constexpr size_t kFadtBytes = 276;
constexpr uint8_t kSystemIo = 1;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
void put_at(std::string& out, size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof(T));
}

uint8_t checksum(std::string_view bytes) {
  uint8_t sum = 0;
  for (const char c : bytes) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  return static_cast<uint8_t>(-sum);
}

/// A table: the common header (5.2.6), whose checksum makes all bytes add up to zero, and the body.
std::string table(const char (&signature)[5], uint8_t revision, const std::string& body) {
  std::string out(signature, 4);
  put(out, static_cast<uint32_t>(kHeaderBytes + body.size()));
  put(out, revision);
  put(out, uint8_t{0});
  out += "HULL  ";
  out += "HULLVMM ";
  put(out, uint32_t{1});
  out += "HULL";
  put(out, uint32_t{1});
  out += body;
  out[9] = static_cast<char>(checksum(out));
  return out;
}

/// Generic address structure (5.2.3.2): one byte at an I/O port.
std::string io_register(uint16_t port) {
  std::string out;
  put(out, kSystemIo);
  put(out, uint8_t{8});
  put(out, uint8_t{0});
  put(out, uint8_t{1});
  put(out, uint64_t{port});
  return out;
}

std::string make_fadt(uint64_t dsdt) {
  constexpr uint16_t kNoVga = 1 << 2, kNoMsi = 1 << 3, kNoPcieAspm = 1 << 4;
  constexpr uint32_t kWbinvd = 1 << 0, kPowerButtonIsDevice = 1 << 4, kSleepButtonIsDevice = 1 << 5,
                     kResetRegister = 1 << 10, kHardwareReduced = 1 << 20;
  std::string body(kFadtBytes - kHeaderBytes, '\0');
  const auto at = [](size_t offset) { return offset - kHeaderBytes; };
  put_at(body, at(40), static_cast<uint32_t>(dsdt));
  put_at(body, at(109), static_cast<uint16_t>(kNoVga | kNoMsi | kNoPcieAspm));  // no keyboard controller: not probed
  put_at(body, at(112), kWbinvd | kPowerButtonIsDevice | kSleepButtonIsDevice | kResetRegister | kHardwareReduced);
  io_register(power::kResetPort).copy(body.data() + at(116), 12);
  put_at(body, at(128), power::kResetValue);
  put_at(body, at(131), uint8_t{4});  // minor version
  put_at(body, at(140), dsdt);
  io_register(power::kSleepControlPort).copy(body.data() + at(244), 12);
  io_register(power::kSleepStatusPort).copy(body.data() + at(256), 12);
  std::memcpy(body.data() + at(268), "HULLVMM", 8);
  return table("FACP", 6, body);
}

std::string make_madt(uint32_t vcpus) {
  std::string body;
  put(body, static_cast<uint32_t>(layout::kLocalApic));
  put(body, uint32_t{0});  // no PIC
  for (uint32_t id = 0; id < vcpus; ++id) {
    put(body, uint8_t{0});  // processor local APIC (5.2.12.2)
    put(body, uint8_t{8});
    put(body, static_cast<uint8_t>(id));
    put(body, static_cast<uint8_t>(id));
    put(body, uint32_t{1});  // enabled
  }
  put(body, uint8_t{1});  // I/O APIC (5.2.12.3)
  put(body, uint8_t{12});
  put(body, uint8_t{0});
  put(body, uint8_t{0});
  put(body, static_cast<uint32_t>(layout::kIoApic));
  put(body, uint32_t{0});
  return table("APIC", 5, body);
}

std::string numbered(char first, size_t number) {
  char name[5] = "V000";
  name[0] = first;
  for (size_t i = 3, rest = number; i > 0; --i, rest /= 10) name[i] = static_cast<char>('0' + rest % 10);
  return name;
}

std::string virtio_device(const AcpiVirtio& virtio, size_t index, const std::string& more = {}) {
  return aml::device(numbered('V', index),
                     more + aml::name("_HID", aml::text("LNRO0005")) + aml::name("_UID", aml::integer(index)) +
                         aml::name("_CCA", aml::integer(1)) +
                         aml::name("_CRS", aml::resources(aml::memory_window(static_cast<uint32_t>(virtio.window),
                                                                             layout::kVirtioWindowSize) +
                                                          aml::interrupt(virtio.irq))));
}

/// A device that may come later lies in a container of its own (ACPI0004), which Linux looks through again when it is
/// notified; the device's _STA is a byte of memory that the machine writes.
std::string slot(const AcpiVirtio& virtio, size_t number, size_t index) {
  const std::string status = aml::method(
      "_STA", 0,
      aml::if_equal(aml::path(numbered('S', number)), aml::integer(1), aml::return_value(aml::integer(15))) +
          aml::return_value(aml::integer(0)));
  return aml::device(numbered('C', number), aml::name("_HID", aml::text("ACPI0004")) +
                                                aml::name("_UID", aml::integer(number)) +
                                                virtio_device(virtio, index, status));
}

/// Generic event device (5.6.9): the power button's interrupt, and that of the slots, for each of which a byte says
/// whether to look.
std::string event_device(const AcpiMachine& machine) {
  constexpr uint64_t kPressed = 0x80, kBusCheck = 0;
  std::string interrupts = aml::interrupt(layout::kPowerButtonIrq);
  std::string events =
      aml::if_equal(aml::argument(0), aml::integer(layout::kPowerButtonIrq), aml::notify("\\_SB_.PWRB", kPressed));
  if (!machine.slots.empty()) interrupts += aml::interrupt(layout::kSlotIrq);
  for (size_t i = 0; i < machine.slots.size(); ++i) {
    const std::string look = numbered('L', i);
    events += aml::if_equal(aml::path(look), aml::integer(1),
                            aml::store(aml::integer(0), look) + aml::notify("\\_SB_." + numbered('C', i), kBusCheck));
  }
  return aml::device("GED0", aml::name("_HID", aml::text("ACPI0013")) + aml::name("_UID", aml::integer(0)) +
                                 aml::name("_CRS", aml::resources(interrupts)) + aml::method("_EVT", 1, events));
}

/// The slots' bytes; nothing where there are none.
std::string slot_states(size_t count) {
  if (count == 0) return {};
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(numbered('S', i));
  for (size_t i = 0; i < count; ++i) names.push_back(numbered('L', i));
  return aml::memory_bytes("SLTS", static_cast<uint32_t>(layout::kSlotStates), names);
}

std::string make_dsdt(const AcpiMachine& machine) {
  std::string devices =
      aml::device("COM1", aml::name("_HID", aml::eisa_id("PNP0501")) + aml::name("_UID", aml::integer(0)) +
                              aml::name("_CRS", aml::resources(aml::io_ports(layout::kSerialPort, 8) +
                                                               aml::interrupt(layout::kSerialIrq)))) +
      aml::device("RTC0", aml::name("_HID", aml::eisa_id("PNP0B00")) +
                              aml::name("_CRS", aml::resources(aml::io_ports(layout::kCmosPort, 2)))) +
      aml::device("PWRB", aml::name("_HID", aml::eisa_id("PNP0C0C")) + aml::name("_UID", aml::integer(0))) +
      slot_states(machine.slots.size()) + event_device(machine);
  for (size_t i = 0; i < machine.virtio.size(); ++i) devices += virtio_device(machine.virtio[i], i);
  for (size_t i = 0; i < machine.slots.size(); ++i) devices += slot(machine.slots[i], i, machine.virtio.size() + i);
  const std::string off = aml::integer(power::kSleepTypeOff);
  return table("DSDT", 6,
               aml::scope("\\_SB_", devices) +
                   aml::name("\\_S5_", aml::package(off + aml::integer(0) + aml::integer(0) + aml::integer(0), 4)));
}

std::string make_rsdp(uint64_t xsdt) {  // 5.2.5.3
  std::string out = "RSD PTR ";
  put(out, uint8_t{0});
  out += "HULL  ";
  put(out, uint8_t{2});
  put(out, uint32_t{0});  // no RSDT
  put(out, uint32_t{36});
  put(out, xsdt);
  put(out, uint32_t{0});
  out[8] = static_cast<char>(checksum(std::string_view(out).substr(0, 20)));
  out[32] = static_cast<char>(checksum(out));
  return out;
}
}  // namespace

Result<std::vector<std::byte>> make_acpi_tables(const AcpiMachine& machine, uint64_t address, size_t most) {
  std::string out(64, '\0');  // the RSDP's place
  const auto add = [&](const std::string& bytes) {
    out.resize((out.size() + 15) & ~size_t{15});
    const uint64_t where = address + out.size();
    out += bytes;
    return where;
  };
  const uint64_t dsdt = add(make_dsdt(machine));
  std::string entries;
  put(entries, add(make_fadt(dsdt)));
  put(entries, add(make_madt(machine.vcpus)));
  const uint64_t xsdt = add(table("XSDT", 1, entries));
  make_rsdp(xsdt).copy(out.data(), 36);
  if (out.size() > most) {
    return errorf(ErrorKind::kNoSpace,
                  "the ACPI tables take {} bytes, there is room for {}: the machine has too many devices", out.size(),
                  most);
  }
  std::vector<std::byte> bytes(out.size());
  std::memcpy(bytes.data(), out.data(), out.size());
  return bytes;
}

}  // namespace hull::vmm
