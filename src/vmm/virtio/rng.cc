#include "vmm/virtio/rng.h"

#include <sys/random.h>

#include <algorithm>
#include <array>

namespace hull::vmm {

RngDevice::~RngDevice() { deactivate(); }

bool RngDevice::after_events(size_t) {
  if (!waiting_) return false;
  Queue& requests = queue(0);
  Chain chain;
  for (int i = 0; i < 64; ++i) {
    if (!requests.pop(&chain)) {
      if (requests.enable_notifications()) continue;
      waiting_ = false;
      break;
    }
    std::array<std::byte, kMostBytes> bytes;
    const size_t size = std::min<uint64_t>(chain.writable.bytes(), bytes.size());
    const ssize_t got = ::getrandom(bytes.data(), size, 0);
    const uint64_t written = got > 0 ? chain.writable.copy_in(std::span(bytes).first(static_cast<size_t>(got))) : 0;
    requests.push(chain.head, static_cast<uint32_t>(written));
  }
  finish(0);
  return waiting_;
}

}  // namespace hull::vmm
