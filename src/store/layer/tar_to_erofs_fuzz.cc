// Any bytes as a tar stream, all the way to an EROFS image and a skeleton, in memory. The first two bytes choose the
// size of the pieces in which the stream comes.

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "store/layer/erofs_writer.h"
#include "store/layer/layer_builder.h"

using namespace hull;
using namespace hull::store;

namespace {

/// Gives every block that looks like a header its right checksum: otherwise the fuzzer would hardly get past it.
std::vector<std::byte> with_checksums(const uint8_t* data, size_t size) {
  std::vector<std::byte> tar(size);
  std::memcpy(tar.data(), data, size);
  for (size_t at = 0; at + 512 <= size; at += 512) {
    char* block = reinterpret_cast<char*>(tar.data()) + at;
    if (std::memcmp(block + 257, "ustar", 5) != 0) continue;
    std::memset(block + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; ++i) sum += static_cast<unsigned char>(block[i]);
    std::snprintf(block + 148, 8, "%06o", sum);
  }
  return tar;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t piece = 1 + (data[0] | static_cast<size_t>(data[1]) << 8);
  const std::vector<std::byte> sealed = with_checksums(data + 2, size - 2);
  std::span<const std::byte> tar(sealed);
  const int image = ::memfd_create("image", MFD_CLOEXEC);
  LayerTree tree;
  ErofsWriter writer(UniqueFd(image), false);
  SkeletonWriter skeleton(UniqueFd(::memfd_create("skeleton", MFD_CLOEXEC)));
  LayerBuilder builder(tree, writer, &skeleton);
  TarReader reader(builder, {});
  uint64_t bytes = 0;
  while (!tar.empty()) {
    const auto part = tar.first(std::min(piece, tar.size()));
    if (!reader.feed(part).ok() || !writer.flush().ok()) return 0;
    tar = tar.subspan(part.size());
    bytes += part.size();
  }
  if (!reader.finish().ok()) return 0;
  const unsigned char digest_bytes[32] = {1};
  const Digest digest = Digest::from_bytes("sha256", digest_bytes, sizeof digest_bytes);
  const auto written = writer.finish(tree, digest);
  if (!written.ok()) return 0;
  struct stat info{};
  if (::fstat(image, &info) != 0 || static_cast<uint64_t>(info.st_size) != *written || *written % 4096 != 0)
    std::abort();
  if (!skeleton.finish(bytes, digest).ok()) std::abort();
  return 0;
}
