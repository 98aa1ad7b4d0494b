#include "vmm/virtio/fs.h"

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "sys/fd_passing.h"
#include "vmm/virtio/queue_device.h"

namespace hull::vmm {

Result<std::unique_ptr<FsDevice>> FsDevice::create(const FsConfig& config) {
  if (config.tag.empty() || config.tag.size() > kTagBytes) {
    return errorf(ErrorKind::kInvalid, "file system tag '{}': 1 to {} bytes", config.tag, kTagBytes);
  }
  const std::string what = "file system " + config.tag;
  TRY_ASSIGN(UniqueFd socket, sys::connect_unix(config.socket).context(what));
  auto device = std::make_unique<FsDevice>();
  device->tag_ = config.tag;
  TRY(device->introduce(std::move(socket), kRingFeatures).context(what));
  return device;
}

void FsDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  // Clause 5.11.4: the tag, filled up with zeroes, and the number of request queues.
  std::array<std::byte, kTagBytes + sizeof(uint32_t)> config{};
  std::copy_n(reinterpret_cast<const std::byte*>(tag_.data()), tag_.size(), config.begin());
  config[kTagBytes] = std::byte{1};
  copy_config(config, offset, out);
}

}  // namespace hull::vmm
