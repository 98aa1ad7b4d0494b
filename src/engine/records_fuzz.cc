// What the engine reads back from its own folders: a line of a log, whose text the workload wrote; the record of an
// exit, whose error text comes from the runtime; a stored config, whose values come from the user and the image.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/config.h"
#include "engine/log_reader.h"
#include "engine/state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::engine;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 3 == 0) {
    LogRecord record;
    if (parse_log_line(text, &record) && (record.stream < 0 || record.stream > 2 || record.text.size() > size)) {
      std::abort();
    }
  } else if (data[0] % 3 == 1) {
    const auto exit = parse_exit(text);
    if (exit && exit->error.size() > text.size()) std::abort();
  } else {
    const auto config = parse_config(text);
    if (!config.ok()) return 0;
    // What was taken is written and taken again, and means the same.
    const std::string printed = to_json(*config);
    const auto again = parse_config(printed);
    if (!again.ok() || to_json(*again) != printed) std::abort();
  }
  return 0;
}
