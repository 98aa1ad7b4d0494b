// Any bytes as gzip or zstd (first byte), in pieces (second byte), at most 16 MiB of output.

#include <cstdint>
#include <vector>

#include "store/layer/decompress.h"

using namespace hull::store;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto kind = (data[0] & 1) != 0 ? LayerCompression::kGzip : LayerCompression::kZstd;
  MemorySource source(std::as_bytes(std::span(data + 2, size - 2)));
  auto stream = decompressed(source, kind);
  if (!stream.ok()) return 0;
  std::vector<std::byte> out(1 + data[1] * 97);
  size_t total = 0;
  while (total < 16 << 20) {
    const auto got = (*stream)->read(out);
    if (!got.ok() || *got == 0) break;
    total += *got;
  }
  return 0;
}
