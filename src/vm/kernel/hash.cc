#include "vm/kernel/hash.h"

#include <openssl/evp.h>

#include <array>

#include "base/digest.h"

namespace hull::vm {

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned size = 0;
  ::EVP_Digest(bytes.data(), bytes.size(), hash.data(), &size, ::EVP_sha256(), nullptr);
  return to_hex(hash.data(), size);
}

}  // namespace hull::vm
