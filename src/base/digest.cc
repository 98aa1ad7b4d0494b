#include "base/digest.h"

#include "base/error_format.h"

namespace hull {

std::string to_hex(const unsigned char* bytes, size_t count) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(count * 2);
  for (size_t i = 0; i < count; ++i) {
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 15];
  }
  return out;
}

Result<Digest> Digest::parse(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view algorithm = text.substr(0, colon);
  const size_t want = algorithm == "sha256" ? 64 : algorithm == "sha512" ? 128 : 0;
  const std::string_view hex = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (colon == std::string_view::npos || want == 0 || hex.size() != want ||
      hex.find_first_not_of("0123456789abcdef") != std::string_view::npos) {
    return errorf(ErrorKind::kInvalid, "digest \"{:.150}\": expected sha256:<64 hex digits> or sha512:<128>", text);
  }
  return Digest(std::string(text));
}

Digest Digest::from_bytes(std::string_view algorithm, const unsigned char* bytes, size_t count) {
  return Digest(std::string(algorithm) + ":" + to_hex(bytes, count));
}

}  // namespace hull
