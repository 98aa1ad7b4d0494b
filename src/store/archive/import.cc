#include "store/archive/import.h"

#include "base/error_format.h"
#include "store/ingest/ingest.h"

namespace hull::store {

namespace {

/// An image that no registry has: its manifest names the layers as plain tar streams.
Result<Digest> commit_own(ImageWriter& writer, const oci::ImageConfig& config,
                          const std::optional<oci::Reference>& name) {
  NewImage image;
  image.config_json = oci::to_json(config);
  image.id = sha256_of(image.config_json);
  image.diff_ids = config.diff_ids;
  if (name) image.tags.push_back(*name);
  oci::Manifest manifest;
  manifest.config.media_type = oci::kMediaTypeConfig;
  manifest.config.digest = image.id;
  manifest.config.size = static_cast<int64_t>(image.config_json.size());
  for (const Digest& diff_id : config.diff_ids) {
    oci::Descriptor descriptor;
    descriptor.media_type = oci::kMediaTypeLayer;
    descriptor.digest = diff_id;
    TRY_ASSIGN(const uint64_t size, writer.layer_size(diff_id));
    descriptor.size = static_cast<int64_t>(size);
    manifest.layers.push_back(std::move(descriptor));
  }
  image.manifest_json = oci::to_json(manifest);
  image.manifest_is_made_up = true;
  image.manifest_digest = sha256_of(image.manifest_json);
  TRY(writer.commit_image(image));
  return image.id;
}

}  // namespace

Result<Digest> commit_image(ImageWriter& writer, const Image& parent, const oci::ImageConfig& wanted, ByteSource& tar,
                            const CommitOptions& options) {
  oci::ImageConfig config = wanted;
  config.diff_ids = parent.diff_ids;
  config.history = parent.config.history;
  TRY(writer.protect(config.diff_ids));
  for (const std::string& change : options.changes) TRY(apply_change(change, &config.config));
  TRY_ASSIGN(const LayerInfo layer, ingest_unknown(writer, tar, options.limits));
  if (config.diff_ids.size() >= oci::kMaxLayers) {
    return errorf(ErrorKind::kInvalid, "the image has {} layers already, which is the most", config.diff_ids.size());
  }
  config.diff_ids.push_back(layer.diff_id);
  oci::HistoryEntry history;
  history.created = config.created;
  history.author = config.author;
  history.comment = options.comment;
  for (const std::string& word : config.config.entrypoint) history.created_by += word + " ";
  for (const std::string& word : config.config.cmd) history.created_by += word + " ";
  if (!history.created_by.empty()) history.created_by.pop_back();
  config.history.push_back(std::move(history));
  return commit_own(writer, config, options.name);
}

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

  return commit_own(writer, config, options.name);
}

}  // namespace hull::store
