#include "vmm/bus.h"

#include <algorithm>
#include <cstring>

namespace hull::vmm {

bool Bus::add(uint64_t base, uint64_t size, BusDevice* device) {
  const auto at = std::upper_bound(ranges_.begin(), ranges_.end(), base,
                                   [](uint64_t address, const Range& range) { return address < range.base; });
  if (size == 0 || base + size < base) return false;
  if (at != ranges_.end() && at->base < base + size) return false;
  if (at != ranges_.begin() && std::prev(at)->base + std::prev(at)->size > base) return false;
  ranges_.insert(at, {base, size, device});
  return true;
}

const Bus::Range* Bus::find(uint64_t address, uint64_t size) const {
  auto at = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                             [](uint64_t wanted, const Range& range) { return wanted < range.base; });
  if (at == ranges_.begin()) return nullptr;
  --at;
  const uint64_t offset = address - at->base;
  return offset < at->size && size <= at->size - offset ? &*at : nullptr;
}

void Bus::read(uint64_t address, std::span<std::byte> out) const {
  if (const Range* range = find(address, out.size())) {
    range->device->read(address - range->base, out);
  } else {
    std::memset(out.data(), 0xff, out.size());
  }
}

void Bus::write(uint64_t address, std::span<const std::byte> in) const {
  if (const Range* range = find(address, in.size())) range->device->write(address - range->base, in);
}

}  // namespace hull::vmm
