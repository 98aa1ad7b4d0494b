#include "vmm/aml.h"

#include <cstring>

namespace hull::vmm::aml {

namespace {
// Opcodes (20.2.2 to 20.3).
constexpr char kZero = 0x00, kOne = 0x01, kName = 0x08, kByte = 0x0a, kWord = 0x0b, kDword = 0x0c, kString = 0x0d,
               kQword = 0x0e, kScope = 0x10, kBuffer = 0x11, kPackage = 0x12, kMethod = 0x14, kDualName = 0x2e,
               kMultiName = 0x2f, kExtended = 0x5b;
constexpr char kDevice = '\x82', kNotify = '\x86';

template <typename T>
std::string little(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

std::string byte(unsigned value) { return std::string(1, static_cast<char>(value)); }

/// PkgLength (20.2.4) counts itself; then the content.
std::string with_length(const std::string& content) {
  const size_t size = content.size();
  if (size + 1 < 0x40) return byte(static_cast<unsigned>(size + 1)) + content;
  for (unsigned more = 1; more <= 3; ++more) {
    const size_t total = size + 1 + more;
    if (total >= 1u << (4 + 8 * more)) continue;
    std::string out = byte((more << 6) | (total & 0xf));
    for (unsigned i = 0; i < more; ++i) out += byte((total >> (4 + 8 * i)) & 0xff);
    return out + content;
  }
  return {};  // 256 MiB of AML
}

std::string extended(char opcode, const std::string& content) {
  return std::string{kExtended, opcode} + with_length(content);
}
}  // namespace

std::string integer(uint64_t value) {
  if (value == 0) return {kZero};
  if (value == 1) return {kOne};
  if (value <= 0xff) return kByte + little(static_cast<uint8_t>(value));
  if (value <= 0xffff) return kWord + little(static_cast<uint16_t>(value));
  if (value <= 0xffffffff) return kDword + little(static_cast<uint32_t>(value));
  return kQword + little(value);
}

std::string text(std::string_view value) { return kString + std::string(value) + '\0'; }

std::string eisa_id(std::string_view id) {
  const auto letter = [&](size_t i) { return static_cast<uint32_t>(id[i] - '@') & 0x1f; };
  uint32_t value = letter(0) << 26 | letter(1) << 21 | letter(2) << 16;
  for (size_t i = 3; i < 7; ++i) {
    const char c = id[i];
    value |= static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'A' + 10) << (4 * (6 - i));
  }
  return kDword + little(__builtin_bswap32(value));
}

std::string path(std::string_view name) {
  std::string prefix, segments;
  if (name.starts_with('\\')) {
    prefix = "\\";
    name.remove_prefix(1);
  }
  unsigned count = 0;
  while (!name.empty()) {
    const size_t dot = name.find('.');
    std::string segment(name.substr(0, dot));
    segment.resize(4, '_');
    segments += segment;
    ++count;
    name = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
  }
  if (count == 2) prefix += kDualName;
  if (count > 2) prefix += kMultiName + byte(count);
  return prefix + segments;
}

std::string name(std::string_view name, const std::string& value) { return kName + path(name) + value; }
std::string package(const std::string& elements, uint8_t count) {
  return kPackage + with_length(byte(count) + elements);
}
std::string scope(std::string_view where, const std::string& terms) {
  return kScope + with_length(path(where) + terms);
}
std::string device(std::string_view name, const std::string& terms) { return extended(kDevice, path(name) + terms); }
std::string method(std::string_view name, uint8_t arguments, const std::string& terms) {
  return kMethod + with_length(path(name) + byte(arguments) + terms);
}
std::string memory_bytes(std::string_view region, uint32_t address, const std::vector<std::string>& names) {
  constexpr char kRegion = '\x80', kField = '\x81';
  constexpr unsigned kSystemMemory = 0, kByteAccess = 1, kBits = 8;
  std::string fields = path(region) + byte(kByteAccess);
  for (const std::string& one : names) fields += path(one) + byte(kBits);
  return std::string{kExtended, kRegion} + path(region) + byte(kSystemMemory) + integer(address) +
         integer(names.size()) + extended(kField, fields);
}
std::string return_value(const std::string& value) { return '\xa4' + value; }
std::string store(const std::string& value, std::string_view target) { return '\x70' + value + path(target); }
std::string if_equal(const std::string& left, const std::string& right, const std::string& terms) {
  constexpr char kIf = '\xa0', kEqual = '\x93';
  return kIf + with_length(kEqual + left + right + terms);
}
std::string argument(unsigned number) { return byte(0x68 + number); }
std::string notify(std::string_view object, uint64_t value) { return kNotify + path(object) + integer(value); }

std::string resources(const std::string& descriptors) {
  const std::string content = descriptors + byte(0x79) + byte(0);  // end tag; checksum 0 means none (6.4.2.9)
  return kBuffer + with_length(integer(content.size()) + content);
}

std::string io_ports(uint16_t first, uint8_t count) {  // 6.4.2.5, decodes 16 bits
  return byte(0x47) + byte(1) + little(first) + little(first) + byte(1) + byte(count);
}

std::string memory_window(uint32_t base, uint32_t size) {  // 6.4.3.4, writable
  return byte(0x86) + little(static_cast<uint16_t>(9)) + byte(1) + little(base) + little(size);
}

std::string interrupt(uint32_t line) {  // 6.4.3.6: consumer, edge, active high, exclusive
  return byte(0x89) + little(static_cast<uint16_t>(6)) + byte(0x03) + byte(1) + little(line);
}

}  // namespace hull::vmm::aml
