#pragma once
// What images have in common.

#include <cstdint>
#include <map>
#include <string>

#include "store/image_store.h"

namespace hull::api {

/// For each image, by id: the bytes of its layers that another image has too. Reads every image's configuration.
Result<std::map<std::string, uint64_t>> shared_sizes(store::ImageStore& images);

}  // namespace hull::api
