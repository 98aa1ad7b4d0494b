#pragma once
// Serves a VirtioDevice to a vhost-user front end such as QEMU (docs/interop/vhost-user.rst): the front end hands over
// the guest's memory as descriptors, tells where the rings are, and stays out of the way.
//
// What the front end says is checked like a guest's word: a message that makes no sense is refused (or ends the
// connection when the front end can't be told), and costs bounded memory. One thing is not held off: a front end that
// cuts its memory file short after handing it over ends this process with SIGBUS, which hurts only its own machine.

#include <array>
#include <memory>
#include <vector>

#include "vmm/virtio/device.h"
#include "vmm/virtio/vhost_user.h"

namespace hull::vmm {

class VhostUserBackend {
 public:
  /// The device is not owned and not active; it is inactive again when the back end is gone.
  explicit VhostUserBackend(VirtioDevice* device);
  ~VhostUserBackend();
  VhostUserBackend(const VhostUserBackend&) = delete;
  VhostUserBackend& operator=(const VhostUserBackend&) = delete;

  /// Handles messages until the front end goes away, which is success. A protocol violation is kInvalid.
  Result<void> serve(int socket);

 private:
  struct Mapping {
    Mapping(void* start, size_t size) : at(start), bytes(size) {}
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();
    void* at;
    size_t bytes;
  };
  struct Region {
    vhost_user::MemoryTableRegion table;
    std::unique_ptr<Mapping> mapping;
    UniqueFd fd;
    std::byte* host = nullptr;
  };
  struct Vring {
    uint32_t size = 0;
    vhost_user::VringAddresses addresses;
    bool has_addresses = false;
    uint16_t base = 0;
    bool enabled = false;
    UniqueFd kick;
    /// Always open and always the same number, so that the device's threads may signal it while it is replaced.
    UniqueFd call, error;
  };

  Result<void> handle(int socket, vhost_user::Message message);
  Result<void> reply(int socket, vhost_user::Request request, uint64_t value);
  Result<void> answer(int socket, const vhost_user::Message& message);
  Result<void> apply(vhost_user::Message* message);
  Result<void> set_features(const vhost_user::Message& message);
  Result<void> set_memory_table(vhost_user::Message* message);
  Result<Region> map_region(const vhost_user::MemoryTableRegion& table, UniqueFd fd);
  Result<void> set_vring_state(const vhost_user::Message& message);
  Result<void> set_vring_addresses(const vhost_user::Message& message);
  Result<void> set_vring_fd(vhost_user::Message* message);
  Result<void> set_config(const vhost_user::Message& message);
  Result<void> answer_config(int socket, const vhost_user::Message& message);
  Result<void> answer_vring_base(int socket, const vhost_user::Message& message);
  Result<Vring*> vring(uint64_t index);
  bool runs(const Vring& vring) const;
  uint64_t guest_address(uint64_t user_address) const;
  /// Makes the device serve the rings that are ready, when they are others than those it serves.
  Result<void> update();
  void stop();
  void report_broken();

  VirtioDevice* device_;
  uint64_t features_ = 0, protocol_features_ = 0;
  std::vector<Region> regions_;
  GuestMemory memory_;
  std::vector<Vring> vrings_;
  std::vector<bool> serving_;  // by queue, while the device is active
};

}  // namespace hull::vmm
