#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"

namespace hull::store {

/// The short ends of files, which wait for their inodes: in memory, and from some size on in the image file itself,
/// far behind where the image will end (the file is cut to its size at the end). A layer of a million small files
/// so needs neither a gigabyte of memory nor a block for each.
class TailStore {
 public:
  /// The image file stays the caller's.
  explicit TailStore(int fd, size_t memory_limit = 64 << 20) : fd_(fd), memory_limit_(memory_limit) {}

  /// Whether that much more can be taken.
  bool has_room(size_t count);
  /// Where the next byte will stand.
  uint64_t end() const { return end_; }
  Result<void> append(std::span<const std::byte> data);
  Result<void> read(uint64_t at, std::span<std::byte> into) const;

  /// From here on the image file is used as scratch space.
  static constexpr uint64_t kScratchAt = 1ULL << 43;

 private:
  Result<void> spill();

  enum class Scratch { kUntried, kWorks, kFails };
  int fd_;
  size_t memory_limit_;
  std::vector<std::byte> memory_;   // the first memory_limit_ bytes
  std::vector<std::byte> pending_;  // bytes for the file that are not written yet
  uint64_t end_ = 0, spilled_ = 0;
  Scratch scratch_ = Scratch::kUntried;
};

}  // namespace hull::store
