#pragma once

#include <optional>
#include <string>
#include <vector>

#include "oci/image_spec.h"
#include "oci/reference.h"
#include "store/archive/archive_index.h"
#include "store/image_writer.h"
#include "store/ingest/progress.h"
#include "store/layer/layer.h"

namespace hull::store {

struct LoadOptions {
  LayerLimits limits;
  uint64_t max_archive_bytes = 1ULL << 40;
  int parallel = 3;
  std::optional<oci::Platform> platform;
  std::string default_registry = "docker.io";
  /// Gives the one image this name, whatever the archive says.
  std::optional<oci::Reference> name_as;
};

struct LoadedImage {
  Digest id;
  std::vector<std::string> tags;  ///< familiar
  bool newer = false;
};

/// Every image of an archive: docker-archive (manifest.json) or OCI layout (index.json). When both are there, the OCI
/// layout counts unless only manifest.json names the images (Docker 25 and newer write both).
/// Errors: kCorrupt, kInvalid, kUnsupported, kNoSpace. Images before the failing one stay loaded.
Result<std::vector<LoadedImage>> load_images(ImageWriter& writer, const MemberSource& archive,
                                             const LoadOptions& options, TransferProgress& progress);

/// The one image of an OCI layout folder.
Result<LoadedImage> load_layout_image(ImageWriter& writer, const std::string& folder, const LoadOptions& options,
                                      TransferProgress& progress);

/// docker-archive's manifest.json.
struct DockerArchiveImage {
  std::string config;  // member name
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;  // member names
};
Result<std::vector<DockerArchiveImage>> parse_docker_archive_manifest(std::string_view json);

}  // namespace hull::store
