#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "store/layer/byte_source.h"

namespace hull::store {

/// Writes a ustar archive (POSIX.1-1988; sizes from 8 GiB on in GNU's base-256 form) front to back. Owner 0, time 0.
class TarOutput {
 public:
  explicit TarOutput(int fd) : fd_(fd) {}
  Result<void> folder(std::string_view name);
  Result<void> file(std::string_view name, std::string_view data);
  /// kInternal unless the source gives exactly `size` bytes.
  Result<void> file(std::string_view name, ByteSource& data, uint64_t size);
  /// The end-of-archive mark.
  Result<void> finish();

 private:
  Result<void> header(std::string_view name, char type, uint64_t size);
  Result<void> pad(uint64_t size);
  int fd_;
};

}  // namespace hull::store
