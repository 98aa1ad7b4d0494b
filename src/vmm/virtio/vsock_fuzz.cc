#include <fcntl.h>
#include <sys/socket.h>

#include "vmm/virtio/device_fuzz.h"
#include "vmm/virtio/vsock.h"

namespace {

using namespace hull;       // NOLINT(google-build-using-namespace)
using namespace hull::vmm;  // NOLINT(google-build-using-namespace)

std::vector<UniqueFd> peers;

// Some ports are connected at once; what is said to them meets a peer that has said something itself.
UniqueFd connect_port(uint32_t port) {
  int ends[2];
  if (port % 4 == 0 || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return {};
  (void)::send(ends[1], "hello guest", 11, MSG_DONTWAIT);
  peers.emplace_back(ends[1]);
  if (port % 4 == 1) peers.pop_back();
  return UniqueFd(ends[0]);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* device = new VsockDevice(VsockSocket(), VsockOptions{.cid = 3, .connect = connect_port});
  peers.clear();
  fuzz::run(device, fuzz::Input(data, size));
  return 0;
}
