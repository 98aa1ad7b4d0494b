// What a guest says it has changed, and what it says of a file: whatever the pieces, the same comes out.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/vm_files.h"
#include "vm/files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::engine;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto stat = hull::vm::decode_stat(text);
  if (stat.ok() && hull::vm::encode_stat(*stat).size() > text.size() + 64) std::abort();
  const auto parse = [&](size_t piece) -> hull::Result<std::vector<FileChange>> {
    ChangeParser parser;
    for (size_t at = 0; at < text.size(); at += piece) TRY(parser.feed(text.substr(at, piece)));
    return parser.finish();
  };
  const auto whole = parse(text.size() + 1), pieces = parse(data[0] % 7 + 1);
  if (whole.ok() != pieces.ok()) std::abort();
  if (!whole.ok()) return 0;
  if (whole->size() != pieces->size()) std::abort();
  for (size_t i = 0; i < whole->size(); ++i) {
    const FileChange &one = (*whole)[i], &other = (*pieces)[i];
    if (one.kind != other.kind || one.path != other.path || !one.path.starts_with('/')) std::abort();
  }
  return 0;
}
