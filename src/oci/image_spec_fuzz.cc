// Manifests, indexes and image configs. What parses is written and parses again to the same.

#include <cstddef>
#include <cstdint>

#include "oci/image_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::oci;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto same = [](auto first, auto parse) {
    if (!first.ok()) return;
    const std::string written = to_json(*first);
    auto again = parse(written);
    if (!again.ok() || to_json(*again) != written) __builtin_trap();
  };
  switch (data[0] % 5) {
    case 0:
      same(parse_manifest(text), parse_manifest);
      break;
    case 1:
      same(parse_index(text), parse_index);
      break;
    case 2:
      same(parse_image_config(text), parse_image_config);
      break;
    case 3:
      static_cast<void>(is_index(text, kMediaTypeManifest).ok());
      break;
    default:
      static_cast<void>(parse_platform(text).ok());
  }
  return 0;
}
