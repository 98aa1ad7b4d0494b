#include "vmm/virtio/block.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::Descriptor;
using simulated::kWrite;

struct Header {
  uint32_t type = 0, reserved = 0;
  uint64_t sector = 0;
};
struct Range {
  uint64_t sector = 0;
  uint32_t sectors = 0, flags = 0;
};
constexpr uint32_t kRead = 0, kWriteOut = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kZeroes = 13;
constexpr char kPending = 'P', kOk = 0, kError = 1, kUnsupported = 2;

std::string pattern(size_t size, unsigned seed) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>((i * 131 + i / 512 * 7 + seed) % 251);
  return out;
}

class BlockTest : public testing::TestWithParam<BlockDevice::Engine> {
 protected:
  BlockTest() {
    std::string name = "/tmp/hull-block-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~BlockTest() override {
    driver_.reset();
    disk_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string file(const std::string& name, const std::string& data) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << data;
    return path;
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void start(const DiskConfig& config) {
    auto disk = BlockDevice::create(config, GetParam());
    ASSERT_TRUE(disk.ok()) << disk.error().message();
    disk_ = std::move(*disk);
    driver_ = std::make_unique<simulated::Driver>(disk_.get());
    ASSERT_TRUE(driver_->start().ok());
  }
  BlockConfig config() const {
    BlockConfig config;
    disk_->read_config(0, std::as_writable_bytes(std::span(&config, 1)));
    return config;
  }
  uint64_t place(const Header& header) {
    return driver_->memory.place({reinterpret_cast<const char*>(&header), sizeof header});
  }
  struct Done {
    char status = kPending;
    uint32_t written = 0;
    std::string data;
  };
  /// One request: `out` goes to the device, `in` bytes come back.
  Done request(uint32_t type, uint64_t sector, const std::string& out = {}, uint32_t in = 0) {
    std::vector<Descriptor> chain{{place({type, 0, sector}), sizeof(Header), 0, 0}};
    if (!out.empty()) chain.push_back({driver_->memory.place(out), static_cast<uint32_t>(out.size()), 0, 0});
    const uint64_t data = in > 0 ? driver_->memory.allocate(in) : 0;
    if (in > 0) chain.push_back({data, in, kWrite, 0});
    const uint64_t status = driver_->memory.place({&kPending, 1});
    chain.push_back({status, 1, kWrite, 0});
    driver_->ring(0).add(chain);
    driver_->ring(0).notify();
    const auto used = driver_->ring(0).wait_used();
    if (!used) return {};
    return {driver_->memory.text(status, 1)[0], used->written, in > 0 ? driver_->memory.text(data, in) : ""};
  }
  static std::string range(uint64_t sector, uint32_t sectors, uint32_t flags = 0) {
    const Range range{sector, sectors, flags};
    return {reinterpret_cast<const char*>(&range), sizeof range};
  }

  std::string folder_;
  std::unique_ptr<BlockDevice> disk_;
  std::unique_ptr<simulated::Driver> driver_;
};

TEST_P(BlockTest, ReadsAndWrites) {
  const std::string before = pattern(64 << 10, 1);
  const std::string path = file("disk", before);
  start({.extents = {path}, .read_only = false, .serial = "hull-0", .limit = {}});
  EXPECT_EQ(128u, config().capacity);
  EXPECT_EQ(GetParam() != BlockDevice::Engine::kSynchronous, disk_->asynchronous());
  Done done = request(kRead, 3, {}, 5 * 512);
  EXPECT_EQ(kOk, done.status);
  EXPECT_EQ(5 * 512 + 1u, done.written);
  EXPECT_TRUE(before.substr(3 * 512, 5 * 512) == done.data);
  const std::string fresh = pattern(4096, 9);
  EXPECT_EQ(kOk, request(kWriteOut, 8, fresh).status);
  EXPECT_EQ(kOk, request(kFlush, 0).status);
  std::string expected = before;
  expected.replace(8 * 512, 4096, fresh);
  EXPECT_TRUE(expected == content(path));
  done = request(kGetId, 0, {}, 20);
  EXPECT_EQ(kOk, done.status);
  EXPECT_EQ(std::string("hull-0") + std::string(14, '\0'), done.data);
}

TEST_P(BlockTest, ExtentsFollowOneAnother) {
  const std::string a = pattern(4096, 1), b = pattern(8192, 2), c = pattern(4096 + 100, 3);
  start({.extents = {file("a", a), file("b", b), file("c", c)}, .read_only = true, .serial = "", .limit = {}});
  // The last sector is filled up with zeroes.
  const std::string all = a + b + c + std::string(412, '\0');
  EXPECT_EQ(all.size() / 512, config().capacity);
  Done done = request(kRead, 0, {}, static_cast<uint32_t>(all.size()));
  EXPECT_EQ(kOk, done.status);
  EXPECT_TRUE(all == done.data);
  done = request(kRead, 7, {}, 18 * 512);
  EXPECT_TRUE(all.substr(7 * 512, 18 * 512) == done.data);
  done = request(kRead, all.size() / 512 - 1, {}, 512);
  EXPECT_TRUE(all.substr(all.size() - 512) == done.data);
}

TEST_P(BlockTest, WritesSpanExtents) {
  const std::string a = file("a", std::string(4096, 'a')), b = file("b", std::string(4096, 'b'));
  start({.extents = {a, b}, .read_only = false, .serial = "", .limit = {}});
  const std::string fresh = pattern(2048, 5);
  EXPECT_EQ(kOk, request(kWriteOut, 6, fresh).status);
  EXPECT_EQ(kOk, request(kFlush, 0).status);
  EXPECT_TRUE(std::string(3072, 'a') + fresh.substr(0, 1024) == content(a));
  EXPECT_TRUE(fresh.substr(1024) + std::string(3072, 'b') == content(b));
  EXPECT_EQ(kOk, request(kZeroes, 0, range(7, 2)).status);
  EXPECT_EQ(std::string(512, '\0'), content(a).substr(7 * 512));
  EXPECT_EQ(std::string(512, '\0'), content(b).substr(0, 512));
}

TEST_P(BlockTest, DiscardAndWriteZeroes) {
  const std::string before = pattern(1 << 20, 1);
  const std::string path = file("disk", before);
  start({.extents = {path}, .read_only = false, .serial = "", .limit = {}});
  struct stat full{};
  ASSERT_EQ(0, ::stat(path.c_str(), &full));
  EXPECT_EQ(kOk, request(kDiscard, 0, range(0, 512) + range(1024, 512)).status);
  EXPECT_EQ(kOk, request(kZeroes, 0, range(600, 3)).status);
  EXPECT_EQ(kOk, request(kZeroes, 0, range(700, 16, 1)).status);
  struct stat holes{};
  ASSERT_EQ(0, ::stat(path.c_str(), &holes));
  EXPECT_EQ(full.st_size, holes.st_size);
  EXPECT_LT(holes.st_blocks, full.st_blocks);
  std::string expected = before;
  const auto zero = [&](size_t sector, size_t count) {
    expected.replace(sector * 512, count * 512, count * 512, '\0');
  };
  zero(0, 512);
  zero(1024, 512);
  zero(600, 3);
  zero(700, 16);
  EXPECT_TRUE(expected == content(path));
  EXPECT_EQ(kUnsupported, request(kDiscard, 0, range(0, 8, 1)).status);
  EXPECT_EQ(kUnsupported, request(kZeroes, 0, range(0, 8, 2)).status);
  EXPECT_EQ(kError, request(kDiscard, 0, range(2047, 2)).status);
  EXPECT_EQ(kError, request(kDiscard, 0, range(~0ull, 2)).status);
  EXPECT_EQ(kError, request(kZeroes, 0, range(0, UINT32_MAX)).status);
  EXPECT_EQ(kError, request(kDiscard, 0, range(0, 8) + "x").status);
  std::string many;
  for (int i = 0; i < 17; ++i) many += range(0, 1);
  EXPECT_EQ(kError, request(kDiscard, 0, many).status);
  EXPECT_TRUE(expected == content(path));
}

TEST_P(BlockTest, ReadOnlyIsEnforced) {
  const std::string before = pattern(8192, 1);
  const std::string path = file("disk", before);
  start({.extents = {path}, .read_only = true, .serial = "", .limit = {}});
  EXPECT_NE(0u, disk_->features() & 1u << 5);
  EXPECT_EQ(kError, request(kWriteOut, 0, pattern(512, 2)).status);
  EXPECT_EQ(kError, request(kDiscard, 0, range(0, 8)).status);
  EXPECT_EQ(kError, request(kZeroes, 0, range(0, 8)).status);
  EXPECT_EQ(kOk, request(kFlush, 0).status);
  EXPECT_TRUE(before == content(path));
}

TEST_P(BlockTest, WhatLiesBeyondTheDiskIsAnError) {
  start({.extents = {file("disk", pattern(8192, 1))}, .read_only = false, .serial = "", .limit = {}});
  EXPECT_EQ(kError, request(kRead, 16, {}, 512).status);
  EXPECT_EQ(kError, request(kRead, 15, {}, 1024).status);
  EXPECT_EQ(kError, request(kRead, ~0ull, {}, 512).status);
  EXPECT_EQ(kError, request(kRead, 1ull << 55, {}, 512).status);
  EXPECT_EQ(kError, request(kWriteOut, 16, pattern(512, 1)).status);
  EXPECT_EQ(kError, request(kRead, 0, {}, 100).status);
  EXPECT_EQ(1u, request(kRead, 16, {}, 512).written);
  EXPECT_EQ(kUnsupported, request(77, 0).status);
  EXPECT_EQ(kOk, request(kRead, 16, {}, 0).status);
  EXPECT_EQ(8192, std::filesystem::file_size(folder_ + "/disk"));
}

TEST_P(BlockTest, FileThatBecameShorterIsAnError) {
  const std::string path = file("disk", pattern(64 << 10, 1));
  start({.extents = {path}, .read_only = true, .serial = "", .limit = {}});
  ASSERT_EQ(0, ::truncate(path.c_str(), 4096));
  EXPECT_EQ(kError, request(kRead, 16, {}, 512).status);
  EXPECT_EQ(kOk, request(kRead, 0, {}, 512).status);
}

TEST_P(BlockTest, RequestWithoutStatusBreaksTheDevice) {
  start({.extents = {file("disk", pattern(8192, 1))}, .read_only = false, .serial = "", .limit = {}});
  driver_->ring(0).add({{place({kRead, 0, 0}), sizeof(Header), 0, 0}});
  driver_->ring(0).notify();
  EXPECT_TRUE(driver_->wait_config());
  EXPECT_TRUE(disk_->broken());
}

TEST_P(BlockTest, ManyRequestsAtOnce) {
  const std::string before = pattern(4 << 20, 1);
  start({.extents = {file("disk", before)}, .read_only = true, .serial = "", .limit = {}});
  constexpr size_t kCount = 20;  // three descriptors each, 64 in the ring
  for (int round = 0; round < 20; ++round) {
    std::vector<uint64_t> data;
    for (size_t i = 0; i < kCount; ++i) {
      data.push_back(driver_->memory.allocate(4096));
      const uint64_t header = place({kRead, 0, (round * kCount + i) * 8});
      driver_->ring(0).add(
          {{header, sizeof(Header), 0, 0}, {data[i], 4096, kWrite, 0}, {driver_->memory.allocate(1), 1, kWrite, 0}});
    }
    driver_->ring(0).notify();
    for (size_t i = 0; i < kCount; ++i) ASSERT_TRUE(driver_->ring(0).wait_used());
    for (size_t i = 0; i < kCount; ++i) {
      ASSERT_TRUE(before.substr((round * kCount + i) * 4096, 4096) == driver_->memory.text(data[i], 4096));
    }
  }
}

TEST_P(BlockTest, RateLimitHoldsBack) {
  const std::string path = file("disk", pattern(64 << 10, 1));
  start({.extents = {path}, .read_only = true, .serial = "", .limit = {.operations_per_second = 50}});
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 25; ++i) ASSERT_EQ(kOk, request(kRead, 0, {}, 512).status);
  // 25 at 50 a second, less the bucket's 5.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(350));
}

TEST_P(BlockTest, BadFilesAreRefused) {
  const auto refused = [&](const DiskConfig& config) {
    const auto disk = BlockDevice::create(config, GetParam());
    EXPECT_FALSE(disk.ok());
    return disk.ok() ? ErrorKind::kInternal : disk.error().kind();
  };
  EXPECT_EQ(ErrorKind::kNotFound, refused({.extents = {folder_ + "/none"}}));
  EXPECT_EQ(ErrorKind::kInvalid, refused({.extents = {folder_}}));
  EXPECT_EQ(ErrorKind::kInvalid, refused({.extents = {"/dev/null"}}));
  ASSERT_EQ(0, ::mkfifo((folder_ + "/fifo").c_str(), 0600));
  EXPECT_EQ(ErrorKind::kInvalid, refused({.extents = {folder_ + "/fifo"}}));
  EXPECT_EQ(ErrorKind::kInvalid, refused({.extents = {file("empty", "")}}));
  EXPECT_EQ(ErrorKind::kInvalid, refused({.extents = {}}));
  EXPECT_EQ(ErrorKind::kInvalid, refused({.extents = {file("a", "odd"), file("b", "next")}}));
  EXPECT_EQ(ErrorKind::kInvalid,
            refused({.extents = {file("c", pattern(4096, 1))}, .serial = "longer than twenty bytes"}));
  const std::string path = file("busy", pattern(4096, 1));
  const auto first = BlockDevice::create({.extents = {path}, .read_only = false});
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(ErrorKind::kConflict, refused({.extents = {path}, .read_only = true}));
  const std::string shared = file("shared", pattern(4096, 1));
  const auto reader = BlockDevice::create({.extents = {shared}});
  EXPECT_TRUE(BlockDevice::create({.extents = {shared}}).ok());
  EXPECT_EQ(ErrorKind::kConflict, refused({.extents = {shared}, .read_only = false}));
}

INSTANTIATE_TEST_SUITE_P(Engines, BlockTest,
                         testing::Values(BlockDevice::Engine::kRing, BlockDevice::Engine::kSynchronous),
                         [](const auto& engine) {
                           return engine.param == BlockDevice::Engine::kRing ? "Ring" : "Synchronous";
                         });

TEST(RateLimiter, BytesAreCounted) {
  auto limiter = RateLimiter::create({.bytes_per_second = 1'000'000, .operations_per_second = 0});
  ASSERT_TRUE(limiter.ok());
  uint64_t now = 1'000'000'000;
  EXPECT_TRUE(limiter->admit(now));
  limiter->charge(100'000);  // the whole bucket
  EXPECT_TRUE(limiter->admit(now));
  limiter->charge(1'000'000);
  EXPECT_FALSE(limiter->admit(now));
  EXPECT_FALSE(limiter->admit(now + 900'000'000));
  EXPECT_TRUE(limiter->admit(now + 1'001'000'000));
  // A long rest saves no more than a tenth of a second.
  now += 100'000'000'000;
  EXPECT_TRUE(limiter->admit(now));
  limiter->charge(200'000);
  EXPECT_FALSE(limiter->admit(now));
  EXPECT_TRUE(limiter->admit(now + 101'000'000));
  auto none = RateLimiter::create({});
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(-1, none->timer_fd());
  EXPECT_TRUE(none->admit());
}

}  // namespace
}  // namespace hull::vmm
