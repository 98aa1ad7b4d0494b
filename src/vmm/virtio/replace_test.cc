// Disks that are taken away and given again while a guest does its worst with the device's registers and queue.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "vmm/virtio/block.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

UniqueFd file_of(char fill) {
  UniqueFd fd(::memfd_create("disk", MFD_CLOEXEC));
  const std::string content(64 << 10, fill);
  EXPECT_EQ(::write(fd.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
  return fd;
}

std::unique_ptr<BlockDevice> disk_of(char fill, bool read_only = false) {
  std::vector<UniqueFd> files;
  files.push_back(file_of(fill));
  return BlockDevice::create({.extents = {}, .read_only = read_only, .serial = "late", .limit = {}}, std::move(files))
      .value();
}

class Replace : public testing::Test {
 protected:
  static constexpr uint16_t kSize = 8;
  Replace() : line_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), ring_(&memory_, kSize) {
    transport_ = MmioTransport::create(disk_.get(), &memory_.guest(), line_.get()).value();
  }
  uint32_t read(uint64_t offset) {
    uint32_t value = 0;
    transport_->read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void write(uint64_t offset, uint32_t value) { transport_->write(offset, std::as_bytes(std::span(&value, 1))); }
  void remove() {
    transport_->change_device([&] { disk_->remove_backing(); });
  }
  void give(char fill) {
    const std::unique_ptr<BlockDevice> fresh = disk_of(fill);
    ASSERT_TRUE(disk_->accepts_backing_of(*fresh));
    transport_->change_device([&] { disk_->take_backing(*fresh); });
  }
  void bring_up() {
    for (const uint32_t status : {0u, 1u, 3u}) write(mmio::kStatus, status);
    write(mmio::kDriverFeaturesSelect, 1);
    write(mmio::kDriverFeatures, 1);
    write(mmio::kStatus, 0xb);
    write(mmio::kQueueSelect, 0);
    write(mmio::kQueueSize, kSize);
    const QueueAddresses& at = ring_.addresses;
    write(mmio::kQueueDescriptorsLow, static_cast<uint32_t>(at.descriptors));
    write(mmio::kQueueDriverLow, static_cast<uint32_t>(at.driver_ring));
    write(mmio::kQueueDeviceLow, static_cast<uint32_t>(at.device_ring));
    write(mmio::kQueueReady, 1);
    write(mmio::kStatus, 0xf);
  }
  /// Reads the first sector; what came, or "error".
  std::string sector() {
    const uint64_t header = memory_.place(std::string(16, '\0')), status = memory_.place("P");
    const uint64_t data = memory_.allocate(512);
    ring_.add({{header, 16, 0, 0}, {data, 512, simulated::kWrite, 0}, {status, 1, simulated::kWrite, 0}});
    write(mmio::kQueueNotify, 0);
    for (int i = 0; i < 5000; ++i) {
      if (ring_.take_used()) return memory_.text(status, 1)[0] == '\0' ? memory_.text(data, 512) : "error";
      ::usleep(1000);
    }
    return "nothing";
  }

  simulated::Memory memory_;
  UniqueFd line_;
  std::unique_ptr<BlockDevice> disk_ = disk_of('1');
  simulated::Ring ring_;
  std::unique_ptr<MmioTransport> transport_;
};

TEST_F(Replace, RequestsFailWithoutADiskAndGoOnWithTheNext) {
  bring_up();
  EXPECT_EQ(sector(), std::string(512, '1'));
  EXPECT_EQ(read(mmio::kConfig), 128u) << "sectors";
  remove();
  EXPECT_EQ(read(mmio::kConfig), 0u);
  EXPECT_EQ(sector(), "error");
  EXPECT_NE(read(mmio::kInterruptStatus) & mmio::kConfigChange, 0u);
  give('2');
  EXPECT_EQ(read(mmio::kConfig), 128u);
  EXPECT_EQ(sector(), std::string(512, '2'));
  EXPECT_FALSE(disk_->accepts_backing_of(*disk_of('3', true))) << "the guest has negotiated a writable one";
}

TEST_F(Replace, AGuestThatScribblesMeanwhileHarmsItsOwnDiskOnly) {
  std::atomic<bool> ends = false;
  std::thread guest([&] {
    std::mt19937 random(7);
    while (!ends) {
      switch (random() % 8) {
        case 0:
          bring_up();
          break;
        case 1:
          write(mmio::kStatus, random() % 16);
          break;
        case 2:
          ring_.set_available_index(static_cast<uint16_t>(random()));
          [[fallthrough]];
        case 3:
          write(mmio::kQueueNotify, 0);
          break;
        case 4:
          ring_.set_descriptor(static_cast<uint16_t>(random() % kSize),
                               {memory_.allocate(0) + random() % 4096, static_cast<uint32_t>(random() % 4096),
                                static_cast<uint16_t>(random() % 8), static_cast<uint16_t>(random() % kSize)});
          break;
        case 5:
          read(mmio::kConfig);
          break;
        default:
          write(mmio::kStatus + random() % 8 * 4, random());
      }
    }
  });
  for (int i = 0; i < 200; ++i) {
    remove();
    EXPECT_FALSE(disk_->has_backing());
    give('2');
    EXPECT_TRUE(disk_->has_backing());
  }
  ends = true;
  guest.join();
  // A driver that begins anew finds a disk as good as any.
  transport_->reset();
  simulated::Driver driver(disk_.get());
  ASSERT_TRUE(driver.start().ok());
  const uint64_t header = driver.memory.place(std::string(16, '\0')), data = driver.memory.allocate(512);
  const uint64_t status = driver.memory.place("P");
  driver.ring(0).add({{header, 16, 0, 0}, {data, 512, simulated::kWrite, 0}, {status, 1, simulated::kWrite, 0}});
  driver.ring(0).notify();
  ASSERT_TRUE(driver.ring(0).wait_used());
  EXPECT_EQ(driver.memory.text(status, 1)[0], '\0');
}

}  // namespace
}  // namespace hull::vmm
