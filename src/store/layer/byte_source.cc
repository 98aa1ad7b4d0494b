#include "store/layer/byte_source.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace hull::store {

Result<size_t> FdSource::read(std::span<std::byte> into) {
  for (;;) {
    const ssize_t got = ::read(fd_, into.data(), into.size());
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return errno_error("read");
  }
}

Result<size_t> MemorySource::read(std::span<std::byte> into) {
  const size_t count = std::min(into.size(), data_.size());
  if (count > 0) std::memcpy(into.data(), data_.data(), count);
  data_ = data_.subspan(count);
  return count;
}

Result<size_t> read_full(ByteSource& source, std::span<std::byte> into) {
  size_t used = 0;
  while (used < into.size()) {
    TRY_ASSIGN(const size_t got, source.read(into.subspan(used)));
    if (got == 0) break;
    used += got;
  }
  return used;
}

}  // namespace hull::store
