// A damaged tar skeleton: the records behind the header are the input, compressed as they are on the disk, or (first
// byte odd) the compressed bytes themselves. Reading ends, with an error or with the layer that the skeleton names.

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "store/layer/tar_rebuild.h"
#include "store/layer/tar_skeleton.h"
#include "sys/file.h"

namespace {

constexpr size_t kMostProduced = 64 << 20;

/// A folder in memory with the skeleton's name in it and the file "f" that records may name.
struct Folder {
  std::string path = "/dev/shm/hull-skeleton-fuzz-XXXXXX";
  hull::UniqueFd fd;
  Folder() {
    if (::mkdtemp(path.data()) == nullptr) std::abort();
    hull::ignore_result(hull::sys::replace_file(path + "/f", std::string(5000, 'c'), 0600, false));
    fd.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~Folder() { hull::ignore_result(hull::sys::remove_tree(path)); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull;
  static const Folder folder;
  static const Digest diff_id = Digest::parse("sha256:" + std::string(64, 'a')).value();
  if (size < 2) return 0;
  store::SkeletonHeader header{};
  std::memcpy(header.magic, store::kSkeletonMagic, sizeof header.magic);
  header.has_overrides = data[0] / 2 % 2;
  std::string file(reinterpret_cast<const char*>(&header), sizeof header);
  if (data[0] % 2 == 1) {
    file.append(reinterpret_cast<const char*>(data + 1), size - 1);
  } else {
    std::string frame(ZSTD_compressBound(size - 1), '\0');
    const size_t length = ZSTD_compress(frame.data(), frame.size(), data + 1, size - 1, 1);
    if (ZSTD_isError(length) != 0) std::abort();
    file.append(frame, 0, length);
  }
  const std::string name = folder.path + "/" + std::string(diff_id.hex()) + ".tarsplit";
  ignore_result(sys::replace_file(name, file, 0600, false));
  auto root = sys::Root::open(folder.path);
  auto tar = store::open_layer_tar(folder.fd.get(), diff_id, std::move(root).value());
  if (!tar.ok()) return 0;
  std::vector<std::byte> piece(64 << 10);
  // A few bytes may ask for one file again and again: bounded here, by the tar's own size where it counts.
  for (size_t produced = 0; produced < kMostProduced;) {
    const auto got = (*tar)->read(piece);
    if (!got.ok()) return 0;
    // Nothing that a fuzzer makes has that digest.
    if (*got == 0) std::abort();
    produced += *got;
  }
  return 0;
}
