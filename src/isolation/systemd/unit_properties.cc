#include "isolation/systemd/unit_properties.h"

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "isolation/process_attributes.h"

namespace hull::isolation::systemd {

namespace {

constexpr uint64_t kInfinity = ~0ULL;

Result<uint64_t> limit_of(std::string_view key, std::string_view text) {
  Result<int64_t> number = parse_int(text, -1, INT64_MAX);
  if (!number.ok()) return std::move(number).error().context(key);
  return *number < 0 ? kInfinity : static_cast<uint64_t>(*number);
}

}  // namespace

Result<std::vector<uint8_t>> cpu_bits(std::string_view list) {
  TRY_ASSIGN(const CpuMask mask, parse_cpu_list(list, "cpus"));
  std::vector<uint8_t> bytes;
  for (size_t cpu = 0; cpu < CpuMask::kMaxCpus; ++cpu) {
    if (!mask.test(cpu)) continue;
    bytes.resize(std::max(bytes.size(), cpu / 8 + 1));
    bytes[cpu / 8] = static_cast<uint8_t>(bytes[cpu / 8] | 1U << (cpu % 8));
  }
  return bytes;
}

Result<std::vector<Property>> unit_properties(const std::vector<std::string>& arguments, std::string_view unit,
                                              bool unified) {
  struct Name {
    std::string_view key, v2, v1;
  };
  constexpr Name kLimits[] = {
      {"memory-max", "MemoryMax", "MemoryLimit"},
      {"memory-low", "MemoryLow", ""},
      {"memory-swap-max", "MemorySwapMax", ""},
      {"cpu-weight", "CPUWeight", ""},
      {"cpu-shares", "", "CPUShares"},
      {"cpu-period", "CPUQuotaPeriodUSec", "CPUQuotaPeriodUSec"},
      {"cpu-quota", "CPUQuotaPerSecUSec", "CPUQuotaPerSecUSec"},
      {"tasks-max", "TasksMax", "TasksMax"},
      {"io-weight", "IOWeight", ""},
  };
  std::vector<Property> out;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos) return errorf(ErrorKind::kInvalid, "\"{}\" is not key=value", argument);
    const std::string_view key = std::string_view(argument).substr(0, equals);
    const std::string_view value = std::string_view(argument).substr(equals + 1);
    const Name* limit =
        std::find_if(std::begin(kLimits), std::end(kLimits), [&](const Name& n) { return n.key == key; });
    if (limit != std::end(kLimits)) {
      TRY_ASSIGN(uint64_t number, limit_of(key, value));
      const std::string_view name = unified ? limit->v2 : limit->v1;
      if (name.empty()) continue;
      if (key == "cpu-quota" && number != kInfinity) {
        // systemd rounds to 10 ms a second and takes 0 for "no limit": round up, as other runtimes do.
        constexpr uint64_t kStepUs = 10'000;
        number = (number + kStepUs - 1) / kStepUs * kStepUs;
      }
      // systemd doesn't take 0 here; a container of one process comes nearest.
      if (key == "tasks-max" && number == 0) number = 1;
      out.push_back({std::string(name), number});
    } else if (key == "cpus" || key == "mems") {
      TRY_ASSIGN(std::vector<uint8_t> bits, cpu_bits(value));
      if (unified) out.push_back({key == "cpus" ? "AllowedCPUs" : "AllowedMemoryNodes", std::move(bits)});
    } else if (key == "slice") {
      // A slice's place follows from its name; only its parent can be asked for.
      out.push_back({unit.ends_with(".slice") ? "Wants" : "Slice", std::string(value)});
    } else if (key == "description") {
      out.push_back({"Description", std::string(value)});
    } else if (key == "pid") {
      TRY_ASSIGN(const int64_t pid, parse_int(value, 1, INT32_MAX));
      if (!unit.ends_with(".slice")) out.push_back({"PIDs", std::vector<uint32_t>{static_cast<uint32_t>(pid)}});
    } else {
      return errorf(ErrorKind::kInvalid, "\"{}\" is not known", key);
    }
  }
  return out;
}

}  // namespace hull::isolation::systemd
