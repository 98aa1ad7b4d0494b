#pragma once
// The one implementation of ImageStore and ImageWriter. Its methods are spread over image_store.cc (reading),
// image_remove.cc (rmi and prune), image_check.cc and image_writer.cc.

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "db/database.h"
#include "store/image_store.h"
#include "store/layout.h"

namespace hull::store {

using db::Database;
using db::ReadTransaction;
using db::Statement;
using db::WriteTransaction;

inline constexpr int kSchemaVersion = 1;

class StoreImpl final : public ImageStore {
 public:
  static Result<std::unique_ptr<StoreImpl>> open(const StorePaths& paths);

  Result<Image> find(std::string_view reference_or_id) override;
  Result<std::vector<ImageSummary>> list(bool all) override;
  Result<void> tag(std::string_view source, std::string_view target) override;
  Result<RemoveReport> remove(std::string_view reference_or_id, bool force) override;
  Result<PruneReport> prune(bool all, const std::vector<std::string>& label_filters,
                            std::chrono::system_clock::time_point until) override;
  Result<void> hold(const Digest& image_id, std::string_view workload_id) override;
  Result<void> release(std::string_view workload_id) override;
  Result<std::vector<std::string>> holders() override;
  Result<std::vector<std::string>> lower_dirs(const Image& image) override;
  Result<std::vector<std::string>> layer_blobs(const Image& image) override;
  Result<Usage> usage() override;
  Result<CheckReport> check(bool deep, bool repair) override;
  void set_layer_verifier(LayerVerifier verifier) override { verifier_ = std::move(verifier); }
  void set_observer(Observer observer) override { observer_ = std::move(observer); }

  // What the writing side and the methods above share.
  Database& db() { return *db_; }
  const Layout& layout() const { return layout_; }
  const StorePaths& paths() const { return paths_; }
  /// Opened when first needed.
  Result<int> layers_fd();

  /// What a name means: one row of images, and by which kind of name it was found.
  struct Resolved {
    std::string id;
    std::string manifest_digest;
    int64_t created_ns = 0;
    int64_t size = 0;
    enum class By { kTag, kDigest, kId } by = By::kId;
    std::string name;  ///< the row in tags or digests
  };
  Result<Resolved> resolve(std::string_view reference_or_id);
  /// workload -> image id
  Result<std::map<std::string, std::string>> holder_map() const;
  /// Docker's short form, unless another default registry makes that ambiguous.
  std::string show(const std::string& canonical) const;
  Result<std::string> config_text(const std::string& image_id) const;
  /// Removes layers and blobs that no image uses and no lease spares; `only` limits it to these diff ids.
  /// Call with gc.lock held exclusively, outside a transaction.
  struct Collected {
    std::vector<Digest> layers;
    uint64_t bytes = 0;
  };
  Result<Collected> collect(const LiveLeases& live, const std::set<std::string>* only);
  /// Drops what a killed process left: staged layers, temporary blobs, artifacts and blobs that the index does not
  /// know. Call with gc.lock held exclusively. Tells each in `found`; removes when `repair`.
  Result<uint64_t> sweep(const LiveLeases& live, bool repair, std::vector<std::string>* found);

 private:
  explicit StoreImpl(const StorePaths& paths) : paths_(paths), layout_(paths.data) {}
  Result<void> migrate();
  Result<void> verify_afresh(const Digest& diff_id);
  Result<void> refuse_unsynced(const Image& image);
  Result<std::optional<Resolved>> resolve_name(std::string_view sql, const std::string& name, Resolved::By by);
  Result<RemoveReport> take_away(std::string_view reference_or_id, bool force, std::string* image_id);
  void notify(std::string_view action, const std::string& image_id, const std::string& name) const {
    if (observer_) observer_(action, image_id, name);
  }
  Result<std::vector<std::string>> layers_of(const std::string& image_id);
  /// What blobs/ should hold.
  Result<std::set<std::string>> known_blobs();

  StorePaths paths_;
  Layout layout_;
  std::unique_ptr<Database> db_;
  UniqueFd layers_fd_;
  LayerVerifier verifier_;
  Observer observer_;
};

}  // namespace hull::store
