// journalctl's export format, whose values come from whoever wrote to the journal; and lines of the driver "local".

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/journal_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::engine;
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  LogRecord line;
  if (parse_local_line(text, &line) && line.text.size() > size) std::abort();
  size_t whole = 0, pieces = 0;
  const auto counted = [](size_t* count) {
    return [count](const LogRecord& record) -> hull::Result<void> {
      *count += record.text.size() + 1;
      return {};
    };
  };
  JournalExport first, second;
  const bool good = first.feed(text, counted(&whole)).ok();
  // However it is cut.
  const size_t step = data[0] % 7 + 1;
  bool also = true;
  for (size_t at = 0; at < text.size() && also; at += step) {
    also = second.feed(text.substr(at, step), counted(&pieces)).ok();
  }
  if (good && also && whole != pieces) std::abort();
  return 0;
}
