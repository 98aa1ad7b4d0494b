#pragma once

#include <optional>
#include <string>
#include <vector>

#include "oci/image_spec.h"
#include "oci/reference.h"
#include "store/image_writer.h"
#include "store/layer/byte_source.h"
#include "store/layer/layer.h"

namespace hull::store {

struct ImportOptions {
  std::vector<std::string> changes;  ///< Dockerfile instructions
  std::string message;
  std::optional<oci::Platform> platform;
  std::optional<oci::Reference> name;
  std::string created;  ///< RFC 3339
  std::string source;   ///< for the history
  LayerLimits limits;
};

/// Makes an image of one layer from a tar stream (plain, gzip or zstd). Returns its id.
Result<Digest> import_image(ImageWriter& writer, ByteSource& tar, const ImportOptions& options);

struct CommitOptions {
  std::vector<std::string> changes;  ///< Dockerfile instructions
  std::string comment;               ///< for the history, whose author and time are those of the config
  std::optional<oci::Reference> name;
  LayerLimits limits;
};

/// Makes an image of another one, with one layer more from a tar stream in the form of a layer. `config`: what the new
/// image shall have; layers and history are taken from the parent. Returns its id.
Result<Digest> commit_image(ImageWriter& writer, const Image& parent, const oci::ImageConfig& config, ByteSource& tar,
                            const CommitOptions& options);

/// Applies one Dockerfile instruction to a config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
/// STOPSIGNAL, USER, VOLUME, WORKDIR. kInvalid names the instruction that can't be read. A shell given before is that
/// of the CMD and ENTRYPOINT lines after it.
Result<void> apply_change(std::string_view instruction, oci::ImageRunConfig* config);

}  // namespace hull::store
