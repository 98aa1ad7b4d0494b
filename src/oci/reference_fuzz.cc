#include <cstddef>
#include <cstdint>

#include "oci/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto parsed = hull::oci::parse_reference(text);
  if (!parsed.ok()) return 0;
  // What was read is what is stored and shown.
  auto again = hull::oci::parse_reference(parsed->canonical());
  if (!again.ok() || *again != *parsed) __builtin_trap();
  auto shown = hull::oci::parse_reference(parsed->familiar());
  if (!shown.ok() || *shown != *parsed) __builtin_trap();
  return 0;
}
