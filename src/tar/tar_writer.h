#pragma once
// Writes an archive front to back: ustar (POSIX.1-1988), with a PAX header (POSIX.1-2001) before an entry that needs
// it.

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/error.h"
#include "tar/tar_entry.h"

namespace hull::tar {

/// Takes every byte; an error ends the writing.
using ByteSink = std::function<Result<void>(std::string_view bytes)>;
/// To a descriptor that stays the caller's.
ByteSink sink_to(int fd);

class TarWriter {
 public:
  explicit TarWriter(ByteSink sink) : sink_(std::move(sink)) {}
  /// The header of an entry; of a file exactly entry.size bytes of data must follow. The path of a folder gets its "/".
  Result<void> begin(const TarEntry& entry);
  Result<void> data(std::string_view bytes);
  /// Ends a file: what is missing of its size is written as zeros (it became shorter while it was read).
  Result<void> end();
  /// The end-of-archive mark.
  Result<void> finish();

 private:
  Result<void> block(const TarEntry& entry, char type, std::string_view name, uint64_t size);
  ByteSink sink_;
  uint64_t left_ = 0;
  size_t padding_ = 0;
};

}  // namespace hull::tar
