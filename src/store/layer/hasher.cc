#include "store/layer/hasher.h"

#include <openssl/evp.h>

#include "base/error_format.h"

namespace hull::store {

namespace {
EVP_MD_CTX* as_context(void* pointer) { return static_cast<EVP_MD_CTX*>(pointer); }
}  // namespace

void Hasher::Free::operator()(void* context) const { EVP_MD_CTX_free(as_context(context)); }

Result<Hasher> Hasher::create(std::string_view algorithm) {
  Hasher hasher;
  const EVP_MD* method = nullptr;
  if (algorithm == "sha256") {
    method = EVP_sha256();
    hasher.algorithm_ = "sha256";
  } else if (algorithm == "sha512") {
    method = EVP_sha512();
    hasher.algorithm_ = "sha512";
  } else {
    return errorf(ErrorKind::kUnsupported, "digest algorithm \"{:.40}\" is not known (sha256 and sha512 are)",
                  algorithm);
  }
  hasher.context_.reset(EVP_MD_CTX_new());
  if (hasher.context_ == nullptr || EVP_DigestInit_ex(as_context(hasher.context_.get()), method, nullptr) != 1) {
    return errorf(ErrorKind::kInternal, "OpenSSL can't compute {}", hasher.algorithm_);
  }
  return hasher;
}

void Hasher::update(std::span<const std::byte> data) {
  EVP_DigestUpdate(as_context(context_.get()), data.data(), data.size());
}

Digest Hasher::finish() {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned count = 0;
  EVP_DigestFinal_ex(as_context(context_.get()), bytes, &count);
  return Digest::from_bytes(algorithm_, bytes, count);
}

}  // namespace hull::store
