#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/error.h"

namespace hull::store {

/// A stream of bytes that is pulled: a download, a file, an entry of an archive.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;
  /// Up to into.size() bytes (at least one unless the stream is at its end or into is empty); 0 at the end. Blocks.
  /// After an error the stream is dead. Called from one thread at a time.
  virtual Result<size_t> read(std::span<std::byte> into) = 0;
};

/// The bytes of a descriptor from its offset to its end. The descriptor stays the caller's.
class FdSource final : public ByteSource {
 public:
  explicit FdSource(int fd) : fd_(fd) {}
  Result<size_t> read(std::span<std::byte> into) override;

 private:
  int fd_;
};

/// Bytes in memory that outlive the source.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> data) : data_(data) {}
  explicit MemorySource(std::string_view data) : data_(std::as_bytes(std::span(data))) {}
  Result<size_t> read(std::span<std::byte> into) override;

 private:
  std::span<const std::byte> data_;
};

/// Fills `into` from the source, short only at the end of the stream.
Result<size_t> read_full(ByteSource& source, std::span<std::byte> into);

}  // namespace hull::store
