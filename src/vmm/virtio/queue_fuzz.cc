// A hostile guest's rings: the input is the memory, and how the device's side is called.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "vmm/virtio/queue.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::vmm;  // NOLINT(google-build-using-namespace)
  constexpr size_t kHead = 16, kMemory = 4096;
  if (size < kHead) return 0;
  alignas(16) static std::byte memory[kMemory];
  std::fill(std::begin(memory), std::end(memory), std::byte{0});
  std::copy_n(reinterpret_cast<const std::byte*>(data + kHead), std::min(size - kHead, kMemory), memory);
  const GuestMemory guest({{0x1000, kMemory / 2, memory, -1, 0},
                           {0x1000 + kMemory / 2, kMemory / 4, memory + kMemory / 2, -1, 0},
                           {0x9000, kMemory / 4, memory + kMemory / 4 * 3, -1, 0}});
  const auto place = [&](size_t at) { return 0x1000 + (data[at] | uint64_t{data[at + 1]} << 8); };
  QueueAddresses addresses;
  addresses.size = static_cast<uint16_t>(1 << (data[0] % 8));
  addresses.descriptors = place(2) & ~15ull;
  addresses.driver_ring = place(4) & ~1ull;
  addresses.device_ring = place(6) & ~3ull;
  addresses.next_available = data[8];
  Queue queue;
  if (!queue.start(&guest, addresses, data[1] % 2 != 0 ? kRingFeatures : kFeatureVersion1)) return 0;
  Chain chain;
  for (int i = 0; i < 300; ++i) {
    const uint8_t what = data[9 + i % 7];
    if (queue.pop(&chain)) {
      if (chain.readable.parts().size() + chain.writable.parts().size() > 2u * addresses.size) std::abort();
      uint64_t number = 0;
      (void)chain.readable.load(&number);
      if (what % 4 == 0) {
        queue.unpop(1);
      } else {
        const uint64_t written =
            what % 8 == 1 ? chain.writable.fill_zero(4096)
                          : chain.writable.copy_in(std::as_bytes(std::span(data, std::min<size_t>(size, 512))));
        queue.push(chain.head, static_cast<uint32_t>(written));
      }
    }
    (void)queue.needs_interrupt();
    if (what % 16 == 2) queue.disable_notifications();
    if (!queue.enable_notifications() && queue.broken()) break;
    if (queue.in_flight() > queue.size()) std::abort();
  }
  return 0;
}
