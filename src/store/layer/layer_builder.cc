#include "store/layer/layer_builder.h"

#include <sys/stat.h>

#include "base/error_format.h"

namespace hull::store {

LayerBuilder::LayerBuilder(LayerTree& tree, LayerSink& sink, SkeletonWriter* skeleton)
    : tree_(tree), sink_(sink), skeleton_(skeleton) {
  if (skeleton_ == nullptr) return;
  tree_.on_content_lost = [this](InodeId id) {
    return skeleton_->override_content(tree_.inode(id).content, [&](uint64_t offset, std::span<std::byte> into) {
      return sink_.read_back(tree_, id, offset, into);
    });
  };
}

Result<void> LayerBuilder::on_raw(std::span<const std::byte> bytes) {
  return skeleton_ != nullptr ? skeleton_->literal(bytes) : Result<void>();
}

Result<void> LayerBuilder::on_entry(TarEntry& entry) {
  auto added = tree_.add(entry);
  if (!added.ok()) {
    return std::move(added.error()).context(fmt::format("tar entry \"{:.200}\"", entry.path));
  }
  in_file_ = false;
  if (entry.type != EntryType::kFile || entry.size == 0 || added->inode == kNone) return {};
  if (!S_ISREG(tree_.inode(added->inode).mode)) return {};  // a whiteout with content
  in_file_ = true;
  if (skeleton_ != nullptr && entry.stored_size > 0) {
    TRY(skeleton_->content(tree_.path(added->node), entry.stored_size, entry.extents));
  }
  return sink_.begin_file(tree_, added->inode, entry);
}

Result<void> LayerBuilder::on_data(std::span<const std::byte> bytes) {
  return in_file_ ? sink_.write(bytes) : on_raw(bytes);
}

Result<void> LayerBuilder::on_entry_end() {
  if (!in_file_) return {};
  in_file_ = false;
  return sink_.end_file();
}

}  // namespace hull::store
