#include "compose/digest.h"

#include <openssl/sha.h>

#include "base/digest.h"

namespace hull::compose {

std::string sha256(std::string_view data) {
  unsigned char bytes[SHA256_DIGEST_LENGTH];
  ::SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(), bytes);
  return to_hex(bytes, sizeof bytes);
}

}  // namespace hull::compose
