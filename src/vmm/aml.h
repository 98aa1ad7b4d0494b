#pragma once
// A builder of ACPI Machine Language (ACPI 6.4, chapter 20), as much of it as this machine's DSDT needs. Each function
// returns the bytes of one term; terms are put together by concatenation.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hull::vmm::aml {

/// A number in its shortest form.
std::string integer(uint64_t value);
/// Zero-terminated ASCII.
std::string text(std::string_view value);
/// A compressed EISA id such as "PNP0501".
std::string eisa_id(std::string_view id);
/// "\\_SB_.PWRB", "_HID": segments of up to four characters, padded with '_'.
std::string path(std::string_view name);
std::string name(std::string_view name, const std::string& value);
std::string package(const std::string& elements, uint8_t count);
std::string scope(std::string_view path, const std::string& terms);
std::string device(std::string_view name, const std::string& terms);
std::string method(std::string_view name, uint8_t arguments, const std::string& terms);
/// A region of physical memory with one byte for each name.
std::string memory_bytes(std::string_view region, uint32_t address, const std::vector<std::string>& names);
std::string return_value(const std::string& value);
std::string store(const std::string& value, std::string_view target);
/// If (LEqual (left, right)) { terms }
std::string if_equal(const std::string& left, const std::string& right, const std::string& terms);
std::string argument(unsigned number);
/// Notify (object, value).
std::string notify(std::string_view object, uint64_t value);

/// A _CRS value from resource descriptors.
std::string resources(const std::string& descriptors);
std::string io_ports(uint16_t first, uint8_t count);
std::string memory_window(uint32_t base, uint32_t size);
/// Edge triggered, active high, not shared.
std::string interrupt(uint32_t line);

}  // namespace hull::vmm::aml
