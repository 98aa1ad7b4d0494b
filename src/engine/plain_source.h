#pragma once
// Archives that clients send may be compressed, as Docker takes them. The compressed bytes are read by another program
// (hull-kernel, as nobody), not by the process that holds the engine.

#include <memory>
#include <string>

#include "engine/files.h"
#include "engine/process.h"

namespace hull::engine {

/// The bytes of `source`, decompressed when they begin as gzip, bzip2, xz or zstd do. `program`: hull-kernel. The
/// source has to outlive it.
class PlainSource {
 public:
  PlainSource(const ByteGiver& source, std::string program) : source_(source), program_(std::move(program)) {}
  ~PlainSource();
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;
  /// As ByteGiver. kInvalid for a broken stream.
  Result<size_t> read(char* buffer, size_t size);

 private:
  Result<void> begin();
  Result<void> start_program();
  Result<void> feed();
  Result<size_t> end();

  const ByteGiver& source_;
  const std::string program_;
  bool begun_ = false, drained_ = false, compressed_ = false;
  std::string pending_;  // read from the source, not passed on yet
  size_t passed_ = 0;
  Child child_;
  UniqueFd to_, from_, said_;
};

}  // namespace hull::engine
