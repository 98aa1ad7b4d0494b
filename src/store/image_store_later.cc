// ImageStore::open_when_needed.

#include "store/image_store.h"

namespace hull::store {
namespace {

class LaterStore final : public ImageStore {
 public:
  explicit LaterStore(const StorePaths& paths) : paths_(paths) {}

  Result<Image> find(std::string_view reference_or_id) override {
    TRY(ready());
    return store_->find(reference_or_id);
  }
  Result<std::vector<ImageSummary>> list(bool all) override {
    TRY(ready());
    return store_->list(all);
  }
  Result<void> tag(std::string_view source, std::string_view target) override {
    TRY(ready());
    return store_->tag(source, target);
  }
  Result<RemoveReport> remove(std::string_view reference_or_id, bool force) override {
    TRY(ready());
    return store_->remove(reference_or_id, force);
  }
  Result<PruneReport> prune(bool all, const std::vector<std::string>& label_filters,
                            std::chrono::system_clock::time_point until) override {
    TRY(ready());
    return store_->prune(all, label_filters, until);
  }
  Result<void> hold(const Digest& image_id, std::string_view workload_id) override {
    TRY(ready());
    return store_->hold(image_id, workload_id);
  }
  Result<void> release(std::string_view workload_id) override {
    TRY(ready());
    return store_->release(workload_id);
  }
  Result<std::vector<std::string>> holders() override {
    TRY(ready());
    return store_->holders();
  }
  Result<std::vector<std::string>> lower_dirs(const Image& image) override {
    TRY(ready());
    return store_->lower_dirs(image);
  }
  Result<std::vector<std::string>> layer_blobs(const Image& image) override {
    TRY(ready());
    return store_->layer_blobs(image);
  }
  Result<Usage> usage() override {
    TRY(ready());
    return store_->usage();
  }
  Result<CheckReport> check(bool deep, bool repair) override {
    TRY(ready());
    return store_->check(deep, repair);
  }
  void set_layer_verifier(LayerVerifier verifier) override {
    verifier_ = std::move(verifier);
    if (store_ != nullptr) store_->set_layer_verifier(verifier_);
  }
  void set_observer(Observer observer) override {
    observer_ = std::move(observer);
    if (store_ != nullptr) store_->set_observer(observer_);
  }

 private:
  Result<void> ready() {
    if (store_ != nullptr) return {};
    TRY_ASSIGN(store_, ImageStore::open(paths_));
    if (verifier_) store_->set_layer_verifier(verifier_);
    if (observer_) store_->set_observer(observer_);
    return {};
  }

  StorePaths paths_;
  LayerVerifier verifier_;
  Observer observer_;
  std::unique_ptr<ImageStore> store_;
};

}  // namespace

std::unique_ptr<ImageStore> ImageStore::open_when_needed(const StorePaths& paths) {
  return std::make_unique<LaterStore>(paths);
}

}  // namespace hull::store
