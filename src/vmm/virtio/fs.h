#pragma once
// virtio-fs (virtio 1.2 clause 5.11): a folder of the host, served by virtiofsd over vhost-user. The machine's memory
// has to be shared.

#include <memory>

#include "vmm/machine_config.h"
#include "vmm/virtio/vhost_user_frontend.h"

namespace hull::vmm {

class FsDevice final : public VhostUserFrontend {
 public:
  static constexpr size_t kTagBytes = 36;

  /// Connects to config.socket, which a daemon listens at, and settles the features.
  static Result<std::unique_ptr<FsDevice>> create(const FsConfig& config);

  uint32_t id() const override { return 26; }
  /// One for urgent requests, one for the others: what QEMU's virtiofsd serves.
  std::vector<uint16_t> queue_sizes() const override { return {128, 128}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override;

 private:
  std::string_view kind() const override { return "fs"; }
  std::string tag_;
};

}  // namespace hull::vmm
