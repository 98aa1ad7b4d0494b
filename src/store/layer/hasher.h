#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "base/digest.h"
#include "base/error.h"

namespace hull::store {

/// A running SHA-256 or SHA-512 (OpenSSL, which uses the CPU's SHA instructions).
class Hasher {
 public:
  /// "sha256" or "sha512".
  static Result<Hasher> create(std::string_view algorithm = "sha256");
  void update(std::span<const std::byte> data);
  /// The digest of everything so far; the hasher is used up.
  Digest finish();

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
  std::string_view algorithm_;
};

}  // namespace hull::store
