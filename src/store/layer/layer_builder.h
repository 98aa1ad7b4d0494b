#pragma once

#include "store/layer/layer_sink.h"
#include "store/layer/tar_reader.h"
#include "store/layer/tar_skeleton.h"

namespace hull::store {

/// Puts what the tar reader finds where it belongs: names into the tree, contents into the sink, the rest into the
/// skeleton (when there is one).
class LayerBuilder final : public TarHandler {
 public:
  LayerBuilder(LayerTree& tree, LayerSink& sink, SkeletonWriter* skeleton);

  Result<void> on_raw(std::span<const std::byte> bytes) override;
  Result<void> on_entry(TarEntry& entry) override;
  Result<void> on_data(std::span<const std::byte> bytes) override;
  Result<void> on_entry_end() override;

 private:
  LayerTree& tree_;
  LayerSink& sink_;
  SkeletonWriter* skeleton_;
  bool in_file_ = false;  // the entry's content goes to the sink
};

}  // namespace hull::store
