// Any bytes as kernel, as module and as list of built-in modules.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vm/kernel/bzimage.h"
#include "vm/kernel/elf.h"
#include "vm/kernel/module_tree.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::vm;  // NOLINT(google-build-using-namespace)
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto info = inspect_vmlinux(bytes); info.ok() && info->end > size) __builtin_trap();
  if (const auto image = parse_bzimage(bytes); image.ok() && image->payload.size() > size) __builtin_trap();
  static_cast<void>(inspect_module(bytes).ok());
  for (const bool drop : {false, true}) {
    const auto slim = slim_module(bytes, drop);
    // What was made smaller is a module still.
    if (slim.ok() && inspect_module(bytes).ok() && !inspect_module(*slim).ok()) __builtin_trap();
  }
  static_cast<void>(parse_builtin_list(bytes));
  // Small limits: the point is the readers' bounds, not the memory of the machine.
  static_cast<void>(decompress(compression_of(bytes), bytes, 1 << 20).ok());
  return 0;
}
