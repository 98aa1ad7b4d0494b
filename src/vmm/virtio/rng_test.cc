#include "vmm/virtio/rng.h"

#include <gtest/gtest.h>

#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::kWrite;

TEST(Rng, GivesDifferentBytes) {
  RngDevice rng;
  simulated::Driver driver(&rng);
  ASSERT_TRUE(driver.start().ok());
  std::vector<std::string> seen;
  for (int i = 0; i < 4; ++i) {
    const uint64_t at = driver.memory.allocate(64);
    driver.ring(0).add({{at, 64, kWrite, 0}});
    driver.ring(0).notify();
    const auto used = driver.ring(0).wait_used();
    ASSERT_TRUE(used);
    EXPECT_EQ(64u, used->written);
    seen.push_back(driver.memory.text(at, 64));
    for (int j = 0; j < i; ++j) EXPECT_NE(seen[j], seen[i]);
  }
}

TEST(Rng, GivesAtMostItsShare) {
  RngDevice rng;
  simulated::Driver driver(&rng);
  ASSERT_TRUE(driver.start().ok());
  driver.ring(0).add({{driver.memory.allocate(1 << 20), 1 << 20, kWrite, 0}});
  driver.ring(0).notify();
  const auto used = driver.ring(0).wait_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(RngDevice::kMostBytes, used->written);
  // A request that can't take anything gets nothing.
  driver.ring(0).add({{driver.memory.allocate(16), 16, 0, 0}});
  driver.ring(0).notify();
  const auto nothing = driver.ring(0).wait_used();
  ASSERT_TRUE(nothing);
  EXPECT_EQ(0u, nothing->written);
}

}  // namespace
}  // namespace hull::vmm
