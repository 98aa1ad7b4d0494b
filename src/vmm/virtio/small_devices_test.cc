// Console and persistent memory.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "vmm/virtio/console.h"
#include "vmm/virtio/pmem.h"
#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::kWrite;

class ConsoleTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(0, ::pipe2(ends, O_CLOEXEC));
    keyboard_.reset(ends[1]);
    ConsoleOptions options;
    options.input.reset(ends[0]);
    ASSERT_EQ(0, ::pipe2(ends, O_CLOEXEC));
    screen_.reset(ends[0]);
    options.output.reset(ends[1]);
    console_ = std::make_unique<ConsoleDevice>(std::move(options));
    driver_ = std::make_unique<simulated::Driver>(console_.get());
    ASSERT_TRUE(driver_->start().ok());
  }
  void say(const std::string& text) {
    driver_->ring(1).add({{driver_->memory.place(text), static_cast<uint32_t>(text.size()), 0, 0}});
    driver_->ring(1).notify();
  }
  std::string seen(size_t size) {
    std::string out(size, '\0');
    size_t done = 0;
    for (ssize_t got; done < size && (got = ::read(screen_.get(), out.data() + done, size - done)) > 0;) {
      done += static_cast<size_t>(got);
    }
    return out.substr(0, done);
  }
  UniqueFd keyboard_, screen_;
  std::unique_ptr<ConsoleDevice> console_;
  std::unique_ptr<simulated::Driver> driver_;
};

TEST_F(ConsoleTest, BothWays) {
  say("login: ");
  EXPECT_EQ("login: ", seen(7));
  const uint64_t at = driver_->memory.allocate(100);
  driver_->ring(0).add({{at, 100, kWrite, 0}});
  driver_->ring(0).notify();
  ASSERT_EQ(5, ::write(keyboard_.get(), "root\n", 5));
  const auto used = driver_->ring(0).wait_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(5u, used->written);
  EXPECT_EQ("root\n", driver_->memory.text(at, 5));
  // Input that comes before the guest has buffers waits.
  ASSERT_EQ(1, ::write(keyboard_.get(), "x", 1));
  EXPECT_FALSE(driver_->ring(0).wait_used(30));
  driver_->ring(0).add({{at, 100, kWrite, 0}});
  driver_->ring(0).notify();
  EXPECT_TRUE(driver_->ring(0).wait_used());
}

TEST_F(ConsoleTest, OutputWaitsForTheReader) {
  std::string all;
  for (int i = 0; i < 10; ++i) {
    const std::string piece(30000, static_cast<char>('a' + i));
    say(piece);
    all += piece;
  }
  EXPECT_TRUE(all == seen(all.size()));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(driver_->ring(1).wait_used());
}

TEST_F(ConsoleTest, ReaderThatLeavesHoldsNobodyUp) {
  screen_.reset();
  ::signal(SIGPIPE, SIG_IGN);
  say("nobody");
  EXPECT_TRUE(driver_->ring(1).wait_used());
}

TEST_F(ConsoleTest, SizeAndEmergencyWrite) {
  uint16_t size[2] = {};
  console_->read_config(0, std::as_writable_bytes(std::span(size)));
  EXPECT_EQ(80, size[0]);
  console_->resize(132, 43);
  EXPECT_TRUE(driver_->wait_config());
  console_->read_config(0, std::as_writable_bytes(std::span(size)));
  EXPECT_EQ(132, size[0]);
  EXPECT_EQ(43, size[1]);
  const uint32_t character = '!';
  console_->write_config(8, std::as_bytes(std::span(&character, 1)));
  EXPECT_EQ("!", seen(1));
}

TEST(Pmem, FileIsMappedAndFlushed) {
  std::string name = "/tmp/hull-pmem-XXXXXX";
  const UniqueFd file(::mkstemp(name.data()));
  std::ofstream(name) << "layer";
  auto made = PmemDevice::create(name);
  ASSERT_TRUE(made.ok()) << made.error().message();
  PmemDevice& pmem = **made;
  EXPECT_EQ(PmemDevice::kAlignment, pmem.mapping().size());
  EXPECT_EQ(0, std::memcmp(pmem.mapping().data(), "layer", 6));
  EXPECT_EQ(std::byte{0}, pmem.mapping().back());
  pmem.set_guest_address(0x1'4000'0000);
  std::array<uint64_t, 2> config{};
  pmem.read_config(0, std::as_writable_bytes(std::span(config)));
  EXPECT_EQ(0x1'4000'0000u, config[0]);
  EXPECT_EQ(PmemDevice::kAlignment, config[1]);
  {
    simulated::Driver driver(&pmem);
    ASSERT_TRUE(driver.start().ok());
    for (const uint32_t type : {0u, 1u}) {
      const uint64_t answer = driver.memory.place("????");
      driver.ring(0).add(
          {{driver.memory.place({reinterpret_cast<const char*>(&type), 4}), 4, 0, 0}, {answer, 4, kWrite, 0}});
      driver.ring(0).notify();
      ASSERT_TRUE(driver.ring(0).wait_used());
      EXPECT_EQ(static_cast<char>(type), driver.memory.text(answer, 4)[0]);
    }
  }
  std::filesystem::remove(name);
  EXPECT_FALSE(PmemDevice::create(name).ok());
  EXPECT_FALSE(PmemDevice::create("/tmp").ok());
  EXPECT_FALSE(PmemDevice::create("/dev/zero").ok());
}

}  // namespace
}  // namespace hull::vmm
