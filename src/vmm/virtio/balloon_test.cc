#include "vmm/virtio/balloon.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::Descriptor;
using simulated::kWrite;
constexpr uint64_t kPage = BalloonDevice::kPage;
constexpr uint64_t kStatsFeature = 1ull << 1;

class BalloonTest : public testing::Test {
 protected:
  void start(uint64_t features = ~0ull) {
    driver_ = std::make_unique<simulated::Driver>(&balloon_, features);
    ASSERT_TRUE(driver_->start().ok());
  }
  uint64_t used_blocks() const {
    struct stat status{};
    EXPECT_EQ(0, ::fstat(driver_->memory.fd(), &status));
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  /// So many pages with something in them.
  uint64_t fill(uint64_t pages) {
    const uint64_t at = driver_->memory.allocate(pages * kPage, kPage);
    std::vector<std::byte> bytes(pages * kPage, std::byte{7});
    EXPECT_TRUE(driver_->memory.guest().write(at, bytes));
    return at;
  }
  bool exchange(size_t queue, const std::vector<Descriptor>& chain) {
    driver_->ring(queue).add(chain);
    driver_->ring(queue).notify();
    return driver_->ring(queue).wait_used().has_value();
  }
  Descriptor list(const std::vector<uint32_t>& pages) {
    const std::string_view bytes(reinterpret_cast<const char*>(pages.data()), pages.size() * 4);
    return {driver_->memory.place(bytes), static_cast<uint32_t>(bytes.size()), 0, 0};
  }

  BalloonDevice balloon_;
  std::unique_ptr<simulated::Driver> driver_;
  ~BalloonTest() override { driver_.reset(); }
};

TEST_F(BalloonTest, InflatedPagesGoBackToTheHost) {
  start();
  const uint64_t at = fill(64);
  const uint64_t before = used_blocks();
  std::vector<uint32_t> pages;
  for (uint32_t i = 0; i < 32; ++i) pages.push_back(static_cast<uint32_t>(at / kPage) + i);
  for (uint32_t i = 0; i < 16; ++i) pages.push_back(static_cast<uint32_t>(at / kPage) + 63 - i);
  ASSERT_TRUE(exchange(0, {list(pages)}));
  EXPECT_LE(used_blocks(), before - 48 * kPage + 2 * kPage);
  EXPECT_EQ(std::string(kPage, '\0'), driver_->memory.text(at, kPage));
  EXPECT_EQ(std::string(kPage, '\7'), driver_->memory.text(at + 40 * kPage, kPage));
  ASSERT_TRUE(exchange(1, {list(pages)}));
}

TEST_F(BalloonTest, ReportedRangesGoBackToTheHost) {
  start();
  const uint64_t at = fill(512);
  const uint64_t before = used_blocks();
  ASSERT_TRUE(exchange(3, {{at, 256 * kPage, kWrite, 0}, {at + 256 * kPage, 128 * kPage, kWrite, 0}}));
  EXPECT_EQ(384 * kPage, balloon_.reported_bytes());
  EXPECT_LE(used_blocks(), before - 384 * kPage + 2 * kPage);
  EXPECT_EQ(std::string(kPage, '\7'), driver_->memory.text(at + 400 * kPage, kPage));
  // What is no whole page is left alone.
  ASSERT_TRUE(exchange(3, {{at + 400 * kPage + 8, kPage, kWrite, 0}}));
  EXPECT_EQ(std::string(kPage, '\7'), driver_->memory.text(at + 400 * kPage, kPage));
}

TEST_F(BalloonTest, QueuesMoveUpWhereAFeatureIsNotTaken) {
  start(~kStatsFeature);
  const uint64_t at = fill(8);
  ASSERT_TRUE(exchange(2, {{at, 8 * kPage, kWrite, 0}}));
  EXPECT_EQ(8 * kPage, balloon_.reported_bytes());
}

TEST_F(BalloonTest, TargetIsToldAndAnsweredInTheConfiguration) {
  start();
  balloon_.set_target_bytes(10 * kPage + 5);
  EXPECT_TRUE(driver_->wait_config());
  uint32_t pages[2] = {};
  balloon_.read_config(0, std::as_writable_bytes(std::span(pages)));
  EXPECT_EQ(10u, pages[0]);
  EXPECT_EQ(0u, pages[1]);
  const uint32_t given = 7;
  balloon_.write_config(4, std::as_bytes(std::span(&given, 1)));
  EXPECT_EQ(7 * kPage, balloon_.actual_bytes());
  balloon_.write_config(0, std::as_bytes(std::span(&given, 1)));
  balloon_.read_config(0, std::as_writable_bytes(std::span(pages)));
  EXPECT_EQ(10u, pages[0]);
}

TEST_F(BalloonTest, StatisticsComeWhenAskedFor) {
  start();
  const auto entry = [](uint16_t tag, uint64_t value) {
    std::string bytes(10, '\0');
    std::memcpy(bytes.data(), &tag, 2);
    std::memcpy(bytes.data() + 2, &value, 8);
    return bytes;
  };
  EXPECT_FALSE(balloon_.stats());
  std::string first = entry(4, 1000) + entry(5, 5000) + entry(99, 1) + "odd";
  simulated::Ring& ring = driver_->ring(2);
  ring.add({{driver_->memory.place(first), static_cast<uint32_t>(first.size()), 0, 0}});
  ring.notify();
  EXPECT_FALSE(ring.wait_used(50));  // held
  ASSERT_TRUE(balloon_.stats());
  EXPECT_EQ(1000u, *(*balloon_.stats())[BalloonStats::kFree]);
  EXPECT_EQ(5000u, *(*balloon_.stats())[BalloonStats::kTotal]);
  EXPECT_FALSE((*balloon_.stats())[BalloonStats::kSwapIn]);
  balloon_.request_stats();
  ASSERT_TRUE(ring.wait_used());
  // Two buffers at once make no sense.
  first = entry(4, 900);
  for (int i = 0; i < 2; ++i) {
    ring.add({{driver_->memory.place(first), static_cast<uint32_t>(first.size()), 0, 0}});
  }
  ring.notify();
  EXPECT_TRUE(driver_->wait_config());
  EXPECT_TRUE(balloon_.broken());
}

TEST_F(BalloonTest, PagesOutsideOfMemoryBreakTheDevice) {
  for (const uint32_t page : {0u, UINT32_MAX, static_cast<uint32_t>(simulated::Memory::kFar / kPage) + 100000}) {
    start();
    driver_->ring(0).add({list({page})});
    driver_->ring(0).notify();
    EXPECT_TRUE(driver_->wait_config());
    EXPECT_TRUE(balloon_.broken());
    driver_.reset();
  }
}

}  // namespace
}  // namespace hull::vmm
