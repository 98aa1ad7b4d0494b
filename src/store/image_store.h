#pragma once
// Images as the engine sees them: an index in SQLite, layers as one artifact each. This header and its library stay
// light: no HTTP, TLS or decompression is linked behind it (that is store/registry, store/layer and store/archive).

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "oci/image_spec.h"
#include "oci/reference.h"
#include "store/layer_backend.h"

namespace hull::store {

struct StorePaths {
  std::string data;  ///< images, layers, index: /var/lib/hull
  std::string run;   ///< mounts of this boot: /run/hull
  /// For names without a host (hull.toml, [registry] default).
  std::string default_registry = "docker.io";
};

/// One image of one platform in the store.
struct Image {
  Digest id;               ///< digest of the image config, Docker's image id
  Digest manifest_digest;  ///< as pulled
  oci::ImageConfig config;
  std::string config_json;            ///< verbatim
  std::vector<std::string> tags;      ///< familiar references with tag: "busybox:latest"
  std::vector<std::string> digests;   ///< familiar name@sha256:...
  std::vector<Digest> diff_ids;       ///< layers, lowest first
  std::vector<uint64_t> layer_sizes;  ///< of each, bytes; empty when the store does not know
  uint64_t size = 0;                  ///< unpacked content of all layers, bytes
  std::chrono::system_clock::time_point created;
};

/// One line of `hull images`.
struct ImageSummary {
  Digest id;
  std::vector<std::string> tags, digests;
  uint64_t size = 0;
  std::chrono::system_clock::time_point created;
  int containers = 0;  ///< workloads that hold it
};

struct PruneReport {
  std::vector<std::string> deleted;  ///< references and ids
  uint64_t reclaimed = 0;            ///< bytes
};

/// What removing a reference did: "Untagged: x", "Deleted: sha256:...".
struct RemoveReport {
  std::vector<std::string> untagged;
  std::vector<Digest> deleted;
};

struct CheckReport {
  std::vector<std::string> problems;  ///< one line each, what and where
  std::vector<std::string> repaired;
  uint64_t reclaimed = 0;
};

class ImageStore {
 public:
  /// Opens (and makes, mode 0700) the store. Cheap: one SQLite open, no scan.
  static Result<std::unique_ptr<ImageStore>> open(const StorePaths& paths);
  /// The same store, opened by the first call that needs it: most commands on workloads need none.
  static std::unique_ptr<ImageStore> open_when_needed(const StorePaths& paths);
  virtual ~ImageStore() = default;

  /// By reference, by id ("sha256:..." or a unique hex prefix of at least 4). kNotFound, or kConflict when a prefix
  /// is ambiguous.
  virtual Result<Image> find(std::string_view reference_or_id) = 0;
  virtual Result<std::vector<ImageSummary>> list(bool all) = 0;
  virtual Result<void> tag(std::string_view source, std::string_view target) = 0;
  /// Untags; deletes the image when it was the last reference. In use by a workload: kConflict unless force (then
  /// untagged only).
  virtual Result<RemoveReport> remove(std::string_view reference_or_id, bool force) = 0;
  /// Dangling images (all: every image that no workload holds), then layers and blobs that nothing refers to.
  virtual Result<PruneReport> prune(bool all, const std::vector<std::string>& label_filters,
                                    std::chrono::system_clock::time_point until) = 0;

  /// A workload holds its image while it exists: gc and remove respect it. Idempotent.
  virtual Result<void> hold(const Digest& image_id, std::string_view workload_id) = 0;
  virtual Result<void> release(std::string_view workload_id) = 0;
  virtual Result<std::vector<std::string>> holders() = 0;

  /// Makes the layers of an image available (EROFS blobs are mounted once per boot) and gives overlayfs lower
  /// folders, uppermost first.
  virtual Result<std::vector<std::string>> lower_dirs(const Image& image) = 0;
  /// The files of the same layers, uppermost first, for who mounts them elsewhere (a virtual machine). Nothing is
  /// mounted here. kUnsupported for layers in folder form.
  virtual Result<std::vector<std::string>> layer_blobs(const Image& image) = 0;

  /// Bytes on disk: layers (total, and of layers that no image uses), for `system df`.
  struct Usage {
    uint64_t layers_bytes = 0, reclaimable_bytes = 0;
    int images = 0, images_in_use = 0;
  };
  virtual Result<Usage> usage() = 0;
  /// Verifies index against disk, finds (repair: removes) what a crash left, and drops from the index what can't be
  /// used any more, so that a pull brings it back. deep: the content of every layer too, with the verifier below;
  /// kUnsupported without one.
  virtual Result<CheckReport> check(bool deep, bool repair) = 0;
  /// Recomputes the diff id of a layer from its artifact. Set by programs that link store/layer (hull-images).
  using LayerVerifier = std::function<Result<void>(const Digest& diff_id, const std::string& lower_dir)>;
  virtual void set_layer_verifier(LayerVerifier verifier) = 0;
  /// Told of each change of a name after it is made: "tag", "untag", "delete"; the image's id, and the name (the id
  /// where an image is deleted).
  using Observer = std::function<void(std::string_view action, const std::string& image_id, const std::string& name)>;
  virtual void set_observer(Observer observer) = 0;
};

}  // namespace hull::store
