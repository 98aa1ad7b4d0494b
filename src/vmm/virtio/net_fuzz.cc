#include <sys/socket.h>

#include "vmm/virtio/device_fuzz.h"
#include "vmm/virtio/net.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull;       // NOLINT(google-build-using-namespace)
  using namespace hull::vmm;  // NOLINT(google-build-using-namespace)
  static std::vector<UniqueFd> peers;
  static NetDevice* device = [] {
    std::vector<UniqueFd> ports;
    for (int i = 0; i < 2; ++i) {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
      ports.emplace_back(ends[0]);
      peers.emplace_back(ends[1]);
    }
    return new NetDevice(std::move(ports), {2, 0, 0, 0, 0, 1});
  }();
  fuzz::Input input(data, size);
  // A frame that waits to be received.
  static std::array<char, 70000> frame{};
  const size_t bytes = input.number(2);
  (void)::send(peers[bytes % 2].get(), frame.data(), bytes, MSG_DONTWAIT);
  fuzz::run(device, input);
  for (const UniqueFd& peer : peers) {
    while (::recv(peer.get(), frame.data(), frame.size(), MSG_DONTWAIT) > 0) {
    }
  }
  return 0;
}
