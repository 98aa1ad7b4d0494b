#pragma once

#include <string>

#include "oci/reference.h"
#include "store/image_writer.h"
#include "store/ingest/progress.h"
#include "store/registry/client.h"

namespace hull::store {

struct PushOutcome {
  Digest digest;  ///< of the manifest as the registry has it
  uint64_t size = 0;
};

/// Pushes the image that `reference` names here to the place that it names there. Blobs that the repository has are not
/// sent, those that another repository of the registry has are mounted. The manifest stays as it was pulled when every
/// blob of it is there in the end; layers whose packed form can't be had again are packed anew (gzip, deterministic),
/// and then the manifest is a new one over them.
Result<PushOutcome> push_image(HttpEngine& http, const RegistrySettings& settings, const CredentialStore& credentials,
                               ImageWriter& writer, const oci::Reference& reference, TransferProgress& progress);

}  // namespace hull::store
