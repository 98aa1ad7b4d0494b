#pragma once
// Reading back what the store holds, for push and save.

#include <memory>
#include <string>
#include <string_view>

#include "store/image_writer.h"
#include "store/layer/byte_source.h"

namespace hull::store {

struct StoredImage {
  Image image;
  std::string manifest_json;
};

/// Finds an image and protects all of it from gc for as long as `writer` lives.
Result<StoredImage> open_stored_image(ImageWriter& writer, std::string_view reference_or_id);

/// A layer's tar stream, bit for bit; it verifies itself. The layer gets mounted when it is not.
Result<std::unique_ptr<ByteSource>> open_stored_layer(ImageWriter& writer, const Digest& diff_id);

}  // namespace hull::store
