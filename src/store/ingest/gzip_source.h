#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/layer/byte_source.h"

namespace hull::store {

/// Another source, compressed as one gzip member (RFC 1952) by ISA-L. The same input gives the same bytes: no name, no
/// time, one setting.
class GzipSource final : public ByteSource {
 public:
  /// `tar` must outlive it.
  explicit GzipSource(ByteSource& tar);
  ~GzipSource() override;
  Result<size_t> read(std::span<std::byte> into) override;

 private:
  struct State;
  ByteSource& tar_;
  std::unique_ptr<State> state_;
};

}  // namespace hull::store
