// Any bytes as a kernel package. Nothing may be written outside of the folder, whatever the archive names.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/kernel/package.h"
#include "vm/kernel/source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string folder = [] {
    std::string name = "/tmp/package-fuzz-XXXXXX";
    return std::string(::mkdtemp(name.data()) == nullptr ? "/nonexistent" : name);
  }();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  static_cast<void>(hull::vm::kernel_package_of(bytes));
  const auto file = hull::sys::sealed_memfd("deb", bytes);
  if (!file.ok()) return 0;
  const std::string out = folder + "/out";
  std::filesystem::create_directories(out);
  static_cast<void>(hull::vm::unpack_kernel_package(fmt::format("/proc/self/fd/{}", file->get()), out).ok());
  std::filesystem::remove_all(out);
  if (!std::filesystem::is_empty(folder)) __builtin_trap();
  return 0;
}
