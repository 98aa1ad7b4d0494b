// A line of the record of events: labels and names in it come from images and users.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/events.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::engine;
  const auto event = parse_event(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!event.ok()) return 0;
  const auto again = parse_event(to_json(*event, true));
  if (!again.ok() || to_json(*again, false) != to_json(*event, false)) std::abort();
  return 0;
}
