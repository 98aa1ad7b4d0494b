// docker-archive's manifest.json, and the Dockerfile instructions of import.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/archive/import.h"
#include "store/archive/load.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::store;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 2 == 0) {
    static_cast<void>(parse_docker_archive_manifest(text).ok());
  } else {
    hull::oci::ImageRunConfig config;
    if (apply_change(text, &config).ok()) {
      for (const auto& one : config.env) {
        if (one.find('=') == std::string::npos) __builtin_trap();
      }
    }
  }
  return 0;
}
