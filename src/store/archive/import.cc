#include "store/archive/import.h"

#include "base/error_format.h"
#include "store/ingest/ingest.h"

namespace hull::store {

Result<Digest> import_image(ImageWriter& writer, ByteSource& tar, const ImportOptions& options) {
  oci::ImageConfig config;
  for (const std::string& change : options.changes) TRY(apply_change(change, &config.config));
  TRY_ASSIGN(const LayerInfo layer, ingest_unknown(writer, tar, options.limits));
  config.created = options.created;
  config.platform = options.platform.value_or(oci::host_platform());
  config.diff_ids.push_back(layer.diff_id);
  oci::HistoryEntry history;
  history.created = options.created;
  history.comment = options.message.empty() ? "Imported from " + options.source : options.message;
  config.history.push_back(std::move(history));

  NewImage image;
  image.config_json = oci::to_json(config);
  image.id = sha256_of(image.config_json);
  image.diff_ids = config.diff_ids;
  if (options.name) image.tags.push_back(*options.name);
  oci::Manifest manifest;
  manifest.config.media_type = oci::kMediaTypeConfig;
  manifest.config.digest = image.id;
  manifest.config.size = static_cast<int64_t>(image.config_json.size());
  oci::Descriptor descriptor;
  descriptor.media_type = oci::kMediaTypeLayer;
  descriptor.digest = layer.diff_id;
  descriptor.size = static_cast<int64_t>(layer.tar_size);
  manifest.layers.push_back(std::move(descriptor));
  image.manifest_json = oci::to_json(manifest);
  image.manifest_digest = sha256_of(image.manifest_json);
  TRY(writer.commit_image(image));
  return image.id;
}

}  // namespace hull::store
