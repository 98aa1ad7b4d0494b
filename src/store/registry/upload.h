#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/digest.h"
#include "base/error.h"
#include "store/layer/byte_source.h"
#include "store/registry/client.h"

namespace hull::store {

struct UploadedBlob {
  Digest digest;
  uint64_t size = 0;
};

/// Sends a stream whose digest is known only at its end: PATCH with the bytes as they come, then PUT with the digest
/// (distribution-spec 1.1, "Pushing a blob in chunks"). `upload_url` is where an upload was begun, "" to begin one.
/// `open` makes the stream anew for each try.
Result<UploadedBlob> upload_stream(RegistrySession& session, const std::string& repository, std::string upload_url,
                                   const std::function<Result<std::unique_ptr<ByteSource>>()>& open,
                                   const std::function<void(uint64_t sent)>& sent);

}  // namespace hull::store
