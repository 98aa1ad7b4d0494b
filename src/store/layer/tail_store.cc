#include "store/layer/tail_store.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"

namespace hull::store {

namespace {
constexpr size_t kPiece = 1 << 20;
}  // namespace

bool TailStore::has_room(size_t count) {
  if (memory_.size() + count <= memory_limit_ && spilled_ == 0 && pending_.empty()) return true;
  if (scratch_ == Scratch::kUntried) {
    // Not every file system has files that long; then blocks must do.
    const std::byte probe{};
    scratch_ = ::pwrite(fd_, &probe, 1, static_cast<off_t>(kScratchAt)) == 1 ? Scratch::kWorks : Scratch::kFails;
  }
  return scratch_ == Scratch::kWorks;
}

Result<void> TailStore::append(std::span<const std::byte> data) {
  end_ += data.size();
  const size_t fits = pending_.empty() && spilled_ == 0 ? std::min(data.size(), memory_limit_ - memory_.size()) : 0;
  memory_.insert(memory_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(fits));
  pending_.insert(pending_.end(), data.begin() + static_cast<ptrdiff_t>(fits), data.end());
  return pending_.size() >= kPiece ? spill() : Result<void>();
}

Result<void> TailStore::spill() {
  size_t done = 0;
  while (done < pending_.size()) {
    const ssize_t put =
        ::pwrite(fd_, pending_.data() + done, pending_.size() - done, static_cast<off_t>(kScratchAt + spilled_));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("write the layer image (scratch)");
    done += static_cast<size_t>(put);
    spilled_ += static_cast<uint64_t>(put);
  }
  pending_.clear();
  return {};
}

Result<void> TailStore::read(uint64_t at, std::span<std::byte> into) const {
  while (!into.empty()) {
    size_t count = 0;
    if (at < memory_.size()) {
      count = std::min<size_t>(into.size(), memory_.size() - at);
      std::memcpy(into.data(), memory_.data() + at, count);
    } else if (const uint64_t behind = at - memory_.size(); behind < spilled_) {
      const size_t want = static_cast<size_t>(std::min<uint64_t>(into.size(), spilled_ - behind));
      const ssize_t got = ::pread(fd_, into.data(), want, static_cast<off_t>(kScratchAt + behind));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return errno_error("read the layer image (scratch)");
      count = static_cast<size_t>(got);
    } else {
      count = std::min<size_t>(into.size(), pending_.size() - (behind - spilled_));
      std::memcpy(into.data(), pending_.data() + (behind - spilled_), count);
    }
    at += count;
    into = into.subspan(count);
  }
  return {};
}

}  // namespace hull::store
