#include "vmm/virtio/mmio.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <random>

namespace hull::vmm {
namespace {

constexpr uint64_t kVersion1 = 1ull << 32;

/// A device that only remembers what it was told.
class FakeDevice : public VirtioDevice {
 public:
  uint32_t id() const override { return 42; }
  uint64_t features() const override { return kVersion1 | 0x5; }
  std::vector<uint16_t> queue_sizes() const override { return {256, 16}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override {
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(offset + i);
  }
  void write_config(uint32_t offset, std::span<const std::byte> in) override {
    written_at = offset;
    written = in.size();
  }
  Result<void> activate(Activation activation) override {
    if (refuses) return Error(ErrorKind::kIo, "can't");
    wiring = std::move(activation);
    ++activations;
    return {};
  }
  std::vector<uint16_t> deactivate() override {
    ++deactivations;
    is_broken = false;
    return next;
  }
  bool broken() const override { return is_broken; }

  Activation wiring;
  std::vector<uint16_t> next{0, 0};
  int activations = 0, deactivations = 0;
  uint32_t written_at = 0;
  size_t written = 0;
  bool refuses = false, is_broken = false;
};

class Mmio : public testing::Test {
 protected:
  Mmio() : line_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    transport_ = MmioTransport::create(&device_, &memory_, line_.get()).value();
  }
  uint32_t read(uint64_t offset) {
    uint32_t value = 0;
    transport_->read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void write(uint64_t offset, uint32_t value) { transport_->write(offset, std::as_bytes(std::span(&value, 1))); }
  uint64_t interrupts() {
    uint64_t count = 0;
    return ::read(line_.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
  }
  void accept_features(uint64_t features) {
    write(mmio::kStatus, mmio::kAcknowledge);
    write(mmio::kStatus, mmio::kAcknowledge | mmio::kDriver);
    for (uint32_t half = 0; half < 2; ++half) {
      write(mmio::kDriverFeaturesSelect, half);
      write(mmio::kDriverFeatures, static_cast<uint32_t>(features >> (32 * half)));
    }
    write(mmio::kStatus, mmio::kAcknowledge | mmio::kDriver | mmio::kFeaturesOk);
  }
  void set_queue(uint32_t queue, uint32_t size) {
    write(mmio::kQueueSelect, queue);
    write(mmio::kQueueSize, size);
    write(mmio::kQueueDescriptorsLow, 0x1000);
    write(mmio::kQueueDescriptorsHigh, 0x1);
    write(mmio::kQueueDriverLow, 0x2000);
    write(mmio::kQueueDeviceLow, 0x3000);
    write(mmio::kQueueReady, 1);
  }
  void drive() { write(mmio::kStatus, 0xf); }

  FakeDevice device_;
  GuestMemory memory_;
  UniqueFd line_;
  std::unique_ptr<MmioTransport> transport_;
};

TEST_F(Mmio, SaysWhatItIs) {
  EXPECT_EQ(read(mmio::kMagic), 0x74726976u);
  EXPECT_EQ(read(mmio::kVersion), 2u);
  EXPECT_EQ(read(mmio::kDeviceId), 42u);
  EXPECT_EQ(read(mmio::kDeviceFeatures), 5u);
  write(mmio::kDeviceFeaturesSelect, 1);
  EXPECT_EQ(read(mmio::kDeviceFeatures), 1u);
  write(mmio::kDeviceFeaturesSelect, 2);
  EXPECT_EQ(read(mmio::kDeviceFeatures), 0u);
  write(mmio::kQueueSelect, 1);
  EXPECT_EQ(read(mmio::kQueueSizeMax), 16u);
  write(mmio::kQueueSelect, 2);
  EXPECT_EQ(read(mmio::kQueueSizeMax), 0u);
  EXPECT_EQ(read(mmio::kSharedMemoryLengthLow), UINT32_MAX) << "no shared memory region";
}

TEST_F(Mmio, ADeviceIsChangedUnderItsDriver) {
  int changes = 0;
  const uint32_t generation = read(mmio::kConfigGeneration);
  transport_->change_device([&] { ++changes; });
  EXPECT_EQ(device_.activations, 0) << "no driver has it";
  EXPECT_EQ(interrupts(), 0u);
  EXPECT_NE(read(mmio::kConfigGeneration), generation);
  accept_features(kVersion1);
  set_queue(0, 128);
  drive();
  device_.next = {7, 9};
  transport_->change_device([&] {
    EXPECT_EQ(device_.deactivations, 1) << "nothing runs meanwhile";
    ++changes;
  });
  EXPECT_EQ(changes, 2);
  ASSERT_EQ(device_.activations, 2);
  EXPECT_EQ(device_.wiring.queues[0].addresses.next_available, 7) << "it goes on where it was";
  EXPECT_EQ(device_.wiring.queues[0].addresses.size, 128);
  EXPECT_EQ(interrupts(), 1u);
  EXPECT_EQ(read(mmio::kInterruptStatus), mmio::kConfigChange);
  device_.refuses = true;
  transport_->change_device([] {});
  EXPECT_NE(read(mmio::kStatus) & mmio::kNeedsReset, 0u);
  EXPECT_FALSE(transport_->active());
}

TEST_F(Mmio, ADriverBringsItUpAndDown) {
  accept_features(kVersion1 | 4);
  EXPECT_EQ(read(mmio::kStatus), 0xbu);
  set_queue(0, 128);
  EXPECT_EQ(read(mmio::kQueueReady), 1u);
  drive();
  EXPECT_EQ(read(mmio::kStatus), 0xfu);
  ASSERT_EQ(device_.activations, 1);
  EXPECT_EQ(device_.wiring.features, kVersion1 | 4);
  ASSERT_EQ(device_.wiring.queues.size(), 2u);
  EXPECT_EQ(device_.wiring.queues[0].addresses.size, 128);
  EXPECT_EQ(device_.wiring.queues[0].addresses.descriptors, 0x100001000u);
  EXPECT_EQ(device_.wiring.queues[1].addresses.size, 0) << "the driver did not enable it";
  write(mmio::kStatus, 0);
  EXPECT_EQ(device_.deactivations, 1);
  EXPECT_EQ(read(mmio::kStatus), 0u);
  EXPECT_EQ(read(mmio::kQueueReady), 0u);
}

TEST_F(Mmio, InterruptsAreEdgesWithAStatus) {
  accept_features(kVersion1);
  set_queue(0, 16);
  drive();
  device_.wiring.queues[0].interrupt();
  EXPECT_EQ(interrupts(), 1u);
  EXPECT_EQ(read(mmio::kInterruptStatus), 1u);
  const uint32_t generation = read(mmio::kConfigGeneration);
  device_.wiring.config_changed();
  EXPECT_EQ(interrupts(), 1u);
  EXPECT_EQ(read(mmio::kInterruptStatus), 3u);
  EXPECT_NE(read(mmio::kConfigGeneration), generation);
  write(mmio::kInterruptAcknowledge, 1);
  EXPECT_EQ(read(mmio::kInterruptStatus), 2u);
}

TEST_F(Mmio, NotifyReachesTheQueueThatItNames) {
  const std::vector<int> fds = transport_->notify_fds();
  ASSERT_EQ(fds.size(), 2u);
  write(mmio::kQueueNotify, 1);
  write(mmio::kQueueNotify, 2);
  write(mmio::kQueueNotify, UINT32_MAX);
  uint64_t count = 0;
  EXPECT_EQ(::read(fds[0], &count, 8), -1);
  EXPECT_EQ(::read(fds[1], &count, 8), 8);
  EXPECT_EQ(count, 1u);
}

TEST_F(Mmio, FeaturesThatWereNotOfferedAreNotAccepted) {
  accept_features(kVersion1 | 2);
  EXPECT_EQ(read(mmio::kStatus), 3u);
  drive();
  EXPECT_EQ(device_.activations, 0);
  write(mmio::kStatus, 0);
  accept_features(5);  // a legacy driver
  EXPECT_EQ(read(mmio::kStatus), 3u);
}

TEST_F(Mmio, QueueSizesAreBounded) {
  accept_features(kVersion1);
  for (const uint32_t size : {0u, 3u, 512u, 65536u, 0x10010u, UINT32_MAX}) {
    set_queue(0, size);
    EXPECT_EQ(read(mmio::kQueueReady), 0u) << size;
  }
  set_queue(7, 16);
  EXPECT_EQ(read(mmio::kQueueReady), 0u);
}

TEST_F(Mmio, AQueueCanNotBeMovedWhileItIsUsed) {
  accept_features(kVersion1);
  set_queue(0, 16);
  write(mmio::kQueueDescriptorsLow, 0x9000);
  drive();
  EXPECT_EQ(device_.wiring.queues[0].addresses.descriptors, 0x100001000u);
  set_queue(1, 16);
  EXPECT_EQ(read(mmio::kQueueReady), 0u) << "no queue comes up after the start";
  drive();
  EXPECT_EQ(device_.activations, 1);
}

TEST_F(Mmio, ABrokenDeviceAsksForAReset) {
  accept_features(kVersion1);
  drive();
  device_.is_broken = true;
  EXPECT_NE(read(mmio::kStatus) & mmio::kNeedsReset, 0u);
  write(mmio::kStatus, 0);
  EXPECT_EQ(read(mmio::kStatus), 0u);
  device_.refuses = true;
  accept_features(kVersion1);
  drive();
  EXPECT_NE(read(mmio::kStatus) & mmio::kNeedsReset, 0u);
}

TEST_F(Mmio, ConfigurationIsReadInAnyWidth) {
  std::array<std::byte, 8> wide{};
  transport_->read(mmio::kConfig + 4, wide);
  EXPECT_EQ(wide[0], std::byte{4});
  EXPECT_EQ(wide[7], std::byte{11});
  transport_->write(mmio::kConfig + 2, std::span(wide).first(1));
  EXPECT_EQ(device_.written, 0u) << "no driver is there yet";
  write(mmio::kStatus, mmio::kAcknowledge | mmio::kDriver);
  transport_->write(mmio::kConfig + 2, std::span(wide).first(1));
  EXPECT_EQ(device_.written_at, 2u);
  EXPECT_EQ(device_.written, 1u);
}

TEST_F(Mmio, RegistersWantFourBytes) {
  std::array<std::byte, 8> bytes{};
  transport_->read(mmio::kMagic, std::span(bytes).first(2));
  EXPECT_EQ(bytes[0], std::byte{0});
  transport_->read(mmio::kMagic + 1, std::span(bytes).first(4));
  EXPECT_EQ(bytes[0], std::byte{0});
}

TEST_F(Mmio, ADriverOfRandomBytesDoesNoHarm) {
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t offset = (random() % 5 == 0 ? random() % 0x1000 : random() % 0x110) & (random() % 9 ? ~3u : ~0u);
    const uint32_t value = random() % 3 == 0 ? static_cast<uint32_t>(random()) : random() % 300;
    const size_t size = random() % 8 ? 4 : 1u << random() % 4;
    if (random() % 2) {
      std::array<std::byte, 8> bytes{};
      std::memcpy(bytes.data(), &value, sizeof(value));
      transport_->write(offset, std::span(bytes).first(size));
    } else {
      std::array<std::byte, 8> bytes{};
      transport_->read(offset, std::span(bytes).first(size));
    }
  }
  // It was never started twice without a stop in between.
  EXPECT_LE(device_.activations - device_.deactivations, 1);
  EXPECT_GE(device_.activations - device_.deactivations, 0);
}

}  // namespace
}  // namespace hull::vmm
