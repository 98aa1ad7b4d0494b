#pragma once
// Resource arguments ("memory-max=1024") as systemd unit properties. No bus in here, so it can be tested anywhere.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace hull::isolation::systemd {

/// A property of a unit: t (uint64), b, s, ay or au on the bus.
struct Property {
  std::string name;
  std::variant<uint64_t, bool, std::string, std::vector<uint8_t>, std::vector<uint32_t>> value;
  bool operator==(const Property&) const = default;
};

/// What hull-oci passes: memory-max, memory-low, memory-swap-max (bytes, -1 is none), cpu-weight, cpu-shares,
/// cpu-period (µs), cpu-quota (µs a second, -1 is none), cpus, mems (lists), tasks-max, io-weight; and for `start`
/// slice, description, pid. `unified` chooses between the properties of v2 and those of v1. kInvalid for other keys and
/// wrong values. What the layout has no property for is left out: hull-oci writes the file itself.
Result<std::vector<Property>> unit_properties(const std::vector<std::string>& arguments, std::string_view unit,
                                              bool unified);

/// "0-2,9" as systemd's bit string, least significant byte first.
Result<std::vector<uint8_t>> cpu_bits(std::string_view list);

}  // namespace hull::isolation::systemd
