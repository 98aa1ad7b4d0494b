// Any bytes as the manifest of a guest kernel: paths stay in its folder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vm/kernel_store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto kernel = hull::vm::parse_manifest({reinterpret_cast<const char*>(data), size}, "/k", "n");
  if (!kernel.ok()) return 0;
  if (!kernel->initramfs.starts_with("/k/n/") || kernel->initramfs.find('/', 5) != std::string::npos) __builtin_trap();
  const auto again = hull::vm::parse_manifest(hull::vm::manifest_json(*kernel), "/k", "n");
  if (!again.ok() || again->modules != kernel->modules) __builtin_trap();
  return 0;
}
