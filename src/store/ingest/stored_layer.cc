#include "store/ingest/stored_layer.h"

#include <span>

#include "base/error_format.h"
#include "store/layer/tar_rebuild.h"
#include "store/layer_mount.h"

namespace hull::store {

Result<StoredImage> open_stored_image(ImageWriter& writer, std::string_view reference_or_id) {
  StoredImage out;
  TRY_ASSIGN(out.image, writer.store().find(reference_or_id));
  TRY(writer.protect(out.image.diff_ids));
  const Digest blobs[] = {out.image.id, out.image.manifest_digest};
  TRY(writer.protect(blobs));
  // Between finding and protecting a collector may have been faster.
  for (const Digest& diff_id : out.image.diff_ids) {
    TRY_ASSIGN(const bool there, writer.has_layer(diff_id));
    if (!there) {
      return errorf(ErrorKind::kConflict,
                    "image {}: it was removed meanwhile, or layer {} is damaged (hull system check)", reference_or_id,
                    diff_id.short_hex());
    }
  }
  TRY_ASSIGN(std::optional<std::string> manifest, writer.read_blob(out.image.manifest_digest));
  if (!manifest) {
    return errorf(ErrorKind::kCorrupt, "image {}: its manifest is missing; run 'hull system check --repair'",
                  reference_or_id);
  }
  out.manifest_json = *std::move(manifest);
  return out;
}

Result<std::unique_ptr<ByteSource>> open_stored_layer(ImageWriter& writer, const Digest& diff_id) {
  TRY_ASSIGN(const std::vector<std::string> dirs, ensure_mounted(writer.layer_places(), std::span(&diff_id, 1)));
  TRY_ASSIGN(sys::Root root, sys::Root::open(dirs.front()));
  auto source = open_layer_tar(writer.layers_fd(), diff_id, std::move(root));
  if (!source.ok()) return std::move(source).error().context(fmt::format("layer {}", diff_id.short_hex()));
  return source;
}

}  // namespace hull::store
