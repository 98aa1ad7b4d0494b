#pragma once

#include <optional>
#include <string>
#include <vector>

#include "oci/image_spec.h"
#include "oci/reference.h"
#include "store/image_writer.h"
#include "store/ingest/progress.h"
#include "store/layer/layer.h"
#include "store/registry/client.h"

namespace hull::store {

struct PullOptions {
  oci::Reference reference;
  std::optional<oci::Platform> platform;  ///< absent: the host's
};

struct PullOutcome {
  Digest digest;  ///< of what the tag or digest names at the registry (index or manifest)
  Digest image_id;
  bool newer = false;  ///< the image or the meaning of the tag is new here
};

/// Pulls one reference: mirrors in order, then the registry. The image is whole and runnable in the store when this
/// returns; call sync_written_layers() after telling the user.
/// Errors: kNotFound, kPermission (authentication), kUnavailable, kTimeout, kCorrupt, kUnsupported (schema 1, foreign
/// layers, media types), kInvalid (limits), kNoSpace, kConflict (interrupted).
Result<PullOutcome> pull_image(HttpEngine& http, const RegistrySettings& settings, const CredentialStore& credentials,
                               ImageWriter& writer, const PullOptions& options, TransferProgress& progress);

/// Every tag of a repository.
Result<std::vector<std::string>> remote_tags(HttpEngine& http, const RegistrySettings& settings,
                                             const CredentialStore& credentials, const oci::Reference& reference);

/// The limits of hull.toml in the form that layer conversion takes.
LayerLimits layer_limits(const RegistrySettings& settings);

}  // namespace hull::store
