#pragma once

#include <string>
#include <vector>

#include "oci/reference.h"
#include "store/image_writer.h"

namespace hull::store {

enum class ArchiveFormat {
  kDocker,  ///< docker-archive: manifest.json, one config and plain layer tars ("docker save")
  kOci,     ///< an OCI layout as a tar (oci-archive)
};

/// Writes images into one archive at `fd` (any kind of descriptor), every layer once, as plain tar streams. The same
/// images give the same bytes.
Result<void> save_images(ImageWriter& writer, const std::vector<std::string>& references, ArchiveFormat format, int fd,
                         std::string_view default_registry);

}  // namespace hull::store
