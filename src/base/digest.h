#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace hull {

/// A content digest, "sha256:<64 lower-case hex>" or "sha512:<128>" (image-spec, descriptor, "Digests").
class Digest {
 public:
  Digest() = default;
  /// kInvalid unless the algorithm is known and the hex has its exact length and case.
  static Result<Digest> parse(std::string_view text);
  /// From raw hash bytes of sha256 (32) or sha512 (64).
  static Digest from_bytes(std::string_view algorithm, const unsigned char* bytes, size_t count);

  std::string_view algorithm() const { return std::string_view(text_).substr(0, text_.find(':')); }
  std::string_view hex() const {
    return text_.empty() ? std::string_view() : std::string_view(text_).substr(text_.find(':') + 1);
  }
  /// The first 12 hex digits, as people read ids.
  std::string_view short_hex() const { return hex().substr(0, 12); }
  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }
  auto operator<=>(const Digest&) const = default;

 private:
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// Lower-case hex of bytes.
std::string to_hex(const unsigned char* bytes, size_t count);

}  // namespace hull
