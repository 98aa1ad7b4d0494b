// A hostile vhost-user front end: the input is what it says, with memory files and events as descriptors.
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>

#include "vmm/virtio/device_fuzz.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vhost_user_backend.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull;       // NOLINT(google-build-using-namespace)
  using namespace hull::vmm;  // NOLINT(google-build-using-namespace)
  set_log(LogLevel::kError, LogFormat::kText, 2);
  static const UniqueFd memory = [] {
    UniqueFd made(::memfd_create("memory", MFD_CLOEXEC));
    if (::ftruncate(made.get(), 65536) != 0) std::abort();
    return made;
  }();
  static const UniqueFd event = make_event().value();
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  const UniqueFd front(ends[0]), back(ends[1]);
  fuzz::Input input(data, size);
  // All is said before anything is answered: the socket holds it, and the answers are left unread.
  for (int i = 0; i < 40 && !input.empty(); ++i) {
    const uint8_t how = input.byte();
    const uint32_t request = input.byte() % 48;
    std::vector<std::byte> payload;
    const std::array<size_t, 8> sizes{0, 8, 8, 8, 40, 72, 12, input.byte()};
    for (size_t left = sizes[how % 8]; left > 0; --left) payload.push_back(static_cast<std::byte>(input.byte()));
    std::vector<int> fds(how / 8 % 4 == 3 ? 8 : how / 8 % 4, request == 5 ? memory.get() : event.get());
    const uint32_t flags = how % 64 == 63 ? input.byte() : (how & 64) != 0 ? vhost_user::kNeedReplyFlag : 0;
    if (!vhost_user::send(front.get(), static_cast<vhost_user::Request>(request), flags, payload, fds).ok()) break;
  }
  ::shutdown(front.get(), SHUT_WR);
  RngDevice device;
  VhostUserBackend backend(&device);
  (void)backend.serve(back.get()).ok();
  return 0;
}
