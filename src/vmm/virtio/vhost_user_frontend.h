#pragma once
// A VirtioDevice whose queues another process serves (docs/interop/vhost-user.rst, the front end's part): it gets the
// guest's memory as descriptors, the rings' addresses, and eventfds for kicks and calls. The process may have been
// taken over by the guest: what it answers is bounded, and one that does not answer within kPatience makes the device
// broken.

#include <atomic>
#include <string>
#include <vector>

#include "vmm/virtio/device.h"
#include "vmm/virtio/vhost_user.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm {

class VhostUserFrontend : public VirtioDevice {
 public:
  static constexpr int kPatienceSeconds = 10;

  ~VhostUserFrontend() override;

  uint64_t features() const final { return features_; }
  Result<void> activate(Activation activation) final;
  std::vector<uint16_t> deactivate() final;
  bool broken() const final { return broken_.load(std::memory_order_acquire); }
  void write_config(uint32_t, std::span<const std::byte>) override {}

 protected:
  VhostUserFrontend() = default;
  /// Takes the connection and settles the features: what the back end offers of `wanted`. Before features() is asked.
  Result<void> introduce(UniqueFd socket, uint64_t wanted);
  virtual std::string_view kind() const = 0;

 private:
  struct Calls final : WorkerClient {
    void on_start() override {}
    void on_event(uint64_t key, uint32_t events) override;
    bool after_events() override { return false; }
    VhostUserFrontend* device = nullptr;
  };

  Result<void> tell(vhost_user::Request request, std::span<const std::byte> payload, std::span<const int> fds = {});
  template <typename T>
  Result<void> tell(vhost_user::Request request, const T& value, std::span<const int> fds = {}) {
    return tell(request, std::as_bytes(std::span(&value, 1)), fds);
  }
  template <typename T>
  Result<T> ask(vhost_user::Request request, std::span<const std::byte> payload = {});
  Result<vhost_user::Message> answer_to(vhost_user::Request request);
  Result<void> share_memory();
  Result<void> set_up_queue(uint32_t index);
  Result<uint64_t> user_address(uint64_t guest_address) const;
  Result<void> set_up();
  void mark_broken(std::string_view why);

  UniqueFd socket_;
  uint64_t features_ = 0, protocol_features_ = 0;
  bool has_protocol_ = false;
  Activation activation_;
  std::vector<UniqueFd> calls_;
  Calls client_;
  Worker worker_;
  std::atomic<bool> broken_ = false;
  bool active_ = false;
};

}  // namespace hull::vmm
