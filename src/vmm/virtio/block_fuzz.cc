#include "vmm/virtio/block.h"
#include "vmm/virtio/device_fuzz.h"

namespace {

std::unique_ptr<hull::vmm::BlockDevice> make_disk(bool read_only, hull::vmm::BlockDevice::Engine engine) {
  // Memory files: what the guest writes goes nowhere.
  hull::vmm::DiskConfig config;
  static std::vector<hull::UniqueFd> files;
  for (const off_t size : {4096, 8192}) {
    files.emplace_back(::memfd_create("disk", MFD_CLOEXEC));
    if (::ftruncate(files.back().get(), size) != 0) std::abort();
    config.extents.push_back("/proc/self/fd/" + std::to_string(files.back().get()));
  }
  config.read_only = read_only;
  config.serial = "fuzz";
  return std::move(hull::vmm::BlockDevice::create(config, engine)).value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using Engine = hull::vmm::BlockDevice::Engine;
  static const auto writable = make_disk(false, Engine::kAuto), read_only = make_disk(true, Engine::kSynchronous);
  hull::vmm::fuzz::Input input(data, size);
  hull::vmm::fuzz::run(input.byte() % 4 == 0 ? read_only.get() : writable.get(), input);
  return 0;
}
