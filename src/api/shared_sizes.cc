#include "api/shared_sizes.h"

#include <set>

namespace hull::api {

Result<std::map<std::string, uint64_t>> shared_sizes(store::ImageStore& images) {
  struct Layer {
    int users = 0;
    uint64_t size = 0;
  };
  std::map<std::string, Layer> layers;
  std::map<std::string, std::set<std::string>> layers_of;
  TRY_ASSIGN(const std::vector<store::ImageSummary> all, images.list(true));
  for (const store::ImageSummary& summary : all) {
    const auto image = images.find(summary.id.str());
    if (!image.ok()) continue;  // removed meanwhile
    auto& own = layers_of[summary.id.str()];
    for (size_t i = 0; i < image->diff_ids.size(); ++i) {
      const std::string id = image->diff_ids[i].str();
      if (!own.insert(id).second) continue;
      Layer& layer = layers[id];
      ++layer.users;
      if (i < image->layer_sizes.size()) layer.size = image->layer_sizes[i];
    }
  }
  std::map<std::string, uint64_t> out;
  for (const auto& [id, own] : layers_of) {
    uint64_t& shared = out[id];
    for (const std::string& layer : own) {
      if (layers[layer].users > 1) shared += layers[layer].size;
    }
  }
  return out;
}

}  // namespace hull::api
