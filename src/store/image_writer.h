#pragma once
// The writing side of the store: what pull, load and import go through. The order is blobs, then layers (one row each
// as soon as it is there, so that a killed pull goes on where it was), then the image with its names in one
// transaction. Nothing is visible before that last step.

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "store/image_store.h"
#include "store/layer_mount.h"

namespace hull::store {

class StoreImpl;

/// Holds the byte of layer.locks that stands for one layer: whoever has it fetches that layer, others wait.
class LayerLock {
 public:
  LayerLock(LayerLock&&) = default;
  LayerLock& operator=(LayerLock&&) = default;

 private:
  friend class ImageWriter;
  explicit LayerLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;  // an open file description lock: closing releases it
};

struct LayerRecord {
  Digest diff_id;
  uint64_t tar_size = 0;
  Digest blob_digest;  ///< empty when the layer did not come as a registry blob
  uint64_t blob_size = 0;
  std::string media_type;
};

struct NewImage {
  std::string config_json;
  Digest id;  ///< digest of config_json, computed by the caller
  std::string manifest_json;
  Digest manifest_digest;
  bool manifest_is_made_up = false;  ///< not a registry's: an image that is here keeps the manifest that it has
  std::vector<Digest> diff_ids;
  std::vector<oci::Reference> tags;     ///< names with tag that shall mean this image from now on
  std::vector<oci::Reference> digests;  ///< name@digest as the registry gave it
};

struct CommittedImage {
  bool fresh = false;      ///< the image was not in the store
  bool tag_moved = false;  ///< a tag meant another image, or none, before
};

/// One writing command. Safe to use from several threads.
class ImageWriter {
 public:
  static Result<std::unique_ptr<ImageWriter>> open(const StorePaths& paths);
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  /// The reading side over the same connection; for the thread that made the writer only.
  ImageStore& store();
  /// <data>/layers, for convert_layer().
  int layers_fd() const;
  std::string layers_path() const;
  LayerPlaces layer_places() const;
  /// A fresh name for a staged layer that a sweep can tell from a live one.
  std::string staging_name();

  /// From now until the writer goes, gc spares these digests (layers by diff id, blobs by digest).
  Result<void> protect(std::span<const Digest> digests);
  /// Whether the layer can be used as it is: row and artifact, and not half on the disk when the machine went down.
  /// protect() it first.
  Result<bool> has_layer(const Digest& diff_id);
  /// Bytes of a layer's tar stream. kNotFound.
  Result<uint64_t> layer_size(const Digest& diff_id);
  /// The layer that a registry blob unpacks to, when it was seen before.
  Result<std::optional<Digest>> diff_id_of_blob(const Digest& blob);
  /// nullopt when another process or thread fetches this layer and `wait` is false. kUnavailable when a signal
  /// interrupted the wait.
  Result<std::optional<LayerLock>> lock_layer(const Digest& diff_id, bool wait);
  /// After its artifact was committed to layers/. With a repository also notes the blob, as add_blob() does.
  Result<void> add_layer(const LayerRecord& layer, std::string_view repository = {});
  /// That `blob` (of a layer that is here) is known to exist in registry/repository, and how it is compressed.
  Result<void> add_blob(const LayerRecord& layer, std::string_view repository);
  /// Every known registry form of a layer.
  struct BlobForm {
    Digest digest;
    uint64_t size = 0;
    std::string media_type;
    std::vector<std::string> repositories;
  };
  Result<std::vector<BlobForm>> blob_forms(const Digest& diff_id);

  /// The bytes of a manifest or config; nullopt when absent.
  Result<std::optional<std::string>> read_blob(const Digest& digest);
  /// Writes config and manifest, then the rows. Every layer must be there.
  Result<CommittedImage> commit_image(const NewImage& image);
  /// Layers written since that are not on the disk for certain; after waiting for them, mark_synced().
  std::vector<Digest> unsynced();
  Result<void> mark_synced(std::span<const Digest> diff_ids);

 private:
  ImageWriter() = default;
  Result<void> insert_blob(const LayerRecord& layer, std::string_view repository);
  Result<void> write_blob(const Digest& digest, std::string_view data);
  std::unique_ptr<StoreImpl> store_;
  std::mutex mutex_;  // the connection and the lease
  std::string lease_name_, lease_path_;
  UniqueFd lease_;
  int layers_fd_ = -1;
  unsigned next_stage_ = 0;
  std::set<std::string> protected_;
  std::vector<Digest> unsynced_;
};

}  // namespace hull::store
