// Both ends of vhost-user against each other, and the back end against a front end that talks nonsense.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "vmm/virtio/queue_device.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/simulated_driver.h"
#include "vmm/virtio/vhost_user_backend.h"
#include "vmm/virtio/vhost_user_frontend.h"

namespace hull::vmm {
namespace {

using simulated::kWrite;
using vhost_user::Request;

class Frontend final : public VhostUserFrontend {
 public:
  Result<void> connect(UniqueFd socket) { return introduce(std::move(socket), kRingFeatures); }
  uint32_t id() const override { return 4; }
  std::vector<uint16_t> queue_sizes() const override { return {64}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override { copy_config({}, offset, out); }

 private:
  std::string_view kind() const override { return "test"; }
};

class VhostUserTest : public testing::Test {
 protected:
  VhostUserTest() {
    int ends[2];
    EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    front_.reset(ends[0]);
    thread_ = std::thread([this, back = ends[1]] {
      const UniqueFd socket(back);
      VhostUserBackend backend(&rng_);
      const auto served = backend.serve(socket.get());
      if (!served.ok()) failure_ = served.error().message();
    });
  }
  ~VhostUserTest() override { end(); }
  void end() {
    front_.reset();
    if (thread_.joinable()) thread_.join();
  }
  template <typename T>
  void say(Request request, const T& value, uint32_t flags = 0, std::vector<int> fds = {}) {
    ASSERT_TRUE(vhost_user::send_value(front_.get(), request, flags, value, fds).ok());
  }
  uint64_t answer() {
    auto message = vhost_user::receive(front_.get());
    uint64_t value = ~0ull;
    EXPECT_TRUE(message.ok() && message->load(&value));
    return value;
  }
  /// With REPLY_ACK: whether the back end takes the request.
  template <typename T>
  bool takes(Request request, const T& value, std::vector<int> fds = {}) {
    say(request, value, vhost_user::kNeedReplyFlag, std::move(fds));
    return answer() == 0;
  }
  void with_acknowledgements() { say(Request::kSetProtocolFeatures, vhost_user::kProtocolReplyAck); }

  RngDevice rng_;
  UniqueFd front_;
  std::thread thread_;
  std::string failure_;
};

TEST_F(VhostUserTest, FrontEndsQueueIsServedByTheBackEnd) {
  {
    Frontend device;
    ASSERT_TRUE(device.connect(std::move(front_)).ok());
    EXPECT_EQ(kRingFeatures, device.features());
    simulated::Driver driver(&device);
    ASSERT_TRUE(driver.start().ok());
    for (int i = 0; i < 10; ++i) {
      driver.ring(0).add({{driver.memory.allocate(32), 32, kWrite, 0}});
      driver.ring(0).notify();
      const auto used = driver.ring(0).wait_used();
      ASSERT_TRUE(used);
      EXPECT_EQ(32u, used->written);
    }
    const auto next = device.deactivate();
    ASSERT_EQ(1u, next.size());
    EXPECT_EQ(10, next[0]);
    // Again, where it stopped.
    driver.ring(0).addresses.next_available = next[0];
    ASSERT_TRUE(driver.start().ok());
    driver.ring(0).add({{driver.memory.allocate(32), 32, kWrite, 0}});
    driver.ring(0).notify();
    EXPECT_TRUE(driver.ring(0).wait_used());
  }
  end();
  EXPECT_EQ("", failure_);
}

TEST_F(VhostUserTest, BackEndThatGoesBreaksTheDevice) {
  int ends[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
  UniqueFd back(ends[1]);
  Frontend device;
  std::thread mute([&] {
    // Answers the features, then nothing more is expected of it.
    while (true) {
      auto message = vhost_user::receive(back.get());
      if (!message.ok()) return;
      const uint64_t features = kFeatureVersion1;
      if (message->request() == Request::kGetFeatures) {
        (void)vhost_user::send_value(back.get(), Request::kGetFeatures, vhost_user::kReplyFlag, features).ok();
      }
      if (message->request() == Request::kSetVringKick) return back.reset();
    }
  });
  ASSERT_TRUE(device.connect(UniqueFd(ends[0])).ok());
  simulated::Driver driver(&device);
  ASSERT_TRUE(driver.start().ok());
  EXPECT_TRUE(driver.wait_config());
  EXPECT_TRUE(device.broken());
  mute.join();
}

TEST_F(VhostUserTest, NonsenseRingsNeverLeaveTheFrontEnd) {
  Frontend device;
  ASSERT_TRUE(device.connect(std::move(front_)).ok());
  simulated::Driver driver(&device);
  driver.ring(0).addresses.device_ring = 1ull << 60;
  ASSERT_TRUE(driver.start().ok());
  EXPECT_TRUE(device.broken());
}

TEST_F(VhostUserTest, BackEndRefusesNonsense) {
  with_acknowledgements();
  EXPECT_FALSE(takes(Request::kSetFeatures, ~0ull));
  EXPECT_FALSE(takes(Request::kSetFeatures, uint32_t{0}));
  EXPECT_FALSE(takes(Request::kSetVringSize, vhost_user::VringState{1, 64}));  // one queue only
  EXPECT_FALSE(takes(Request::kSetVringSize, vhost_user::VringState{0, 63}));
  EXPECT_FALSE(takes(Request::kSetVringSize, vhost_user::VringState{0, 1 << 20}));
  EXPECT_FALSE(takes(Request::kSetVringSize, vhost_user::VringState{0, 0}));
  EXPECT_FALSE(takes(Request::kSetVringKick, uint64_t{0}));                     // no descriptor
  EXPECT_FALSE(takes(Request::kSetVringKick, vhost_user::kVringNoDescriptor));  // to be polled
  EXPECT_FALSE(takes(Request::kSetVringCall, uint64_t{5}, {front_.get()}));     // no such queue
  EXPECT_FALSE(takes(static_cast<Request>(99), uint64_t{0}));
  const UniqueFd file(::memfd_create("short", MFD_CLOEXEC));
  ASSERT_EQ(0, ::ftruncate(file.get(), 8192));
  struct {
    vhost_user::MemoryTableHeader header{1, 0};
    vhost_user::MemoryTableRegion region{0, 8192, 0x7000, 0};
  } table;
  EXPECT_FALSE(takes(Request::kSetMemoryTable, table));
  EXPECT_FALSE(takes(Request::kSetMemoryTable, table, {front_.get()}));  // no file
  EXPECT_TRUE(takes(Request::kSetMemoryTable, table, {file.get()}));
  table.region.mmap_offset = 1;
  EXPECT_FALSE(takes(Request::kSetMemoryTable, table, {file.get()}));
  table.region = {~0ull - 100, 8192, 0, 0};
  EXPECT_FALSE(takes(Request::kSetMemoryTable, table, {file.get()}));
  table.region = {0, ~0ull, 0, 0};
  EXPECT_FALSE(takes(Request::kSetMemoryTable, table, {file.get()}));
  table.header.regions = 1000;
  EXPECT_FALSE(takes(Request::kSetMemoryTable, table, {file.get()}));
  struct {
    vhost_user::MemoryTableHeader header{2, 0};
    vhost_user::MemoryTableRegion regions[2]{{0, 8192, 0, 0}, {4096, 4096, 0, 0}};
  } overlapping;
  EXPECT_FALSE(takes(Request::kSetMemoryTable, overlapping, {file.get(), file.get()}));
}

TEST_F(VhostUserTest, RingsOutsideOfMemoryBreakTheDeviceOnly) {
  with_acknowledgements();
  const UniqueFd file(::memfd_create("memory", MFD_CLOEXEC));
  ASSERT_EQ(0, ::ftruncate(file.get(), 65536));
  struct {
    vhost_user::MemoryTableHeader header{1, 0};
    vhost_user::MemoryTableRegion region{0x1000, 65536, 0x7000'0000, 0};
  } table;
  const UniqueFd kick(make_event().value()), error(make_event().value());
  EXPECT_TRUE(takes(Request::kSetFeatures, kRingFeatures | vhost_user::kFeatureProtocol));
  EXPECT_TRUE(takes(Request::kSetMemoryTable, table, {file.get()}));
  EXPECT_TRUE(takes(Request::kSetVringSize, vhost_user::VringState{0, 64}));
  EXPECT_TRUE(takes(Request::kSetVringAddresses, vhost_user::VringAddresses{0, 0, 0x7000'0000, 0x9000'0000, 0, 0}));
  EXPECT_TRUE(takes(Request::kSetVringError, uint64_t{0}, {error.get()}));
  EXPECT_TRUE(takes(Request::kSetVringEnable, vhost_user::VringState{0, 1}));
  EXPECT_TRUE(takes(Request::kSetVringKick, uint64_t{0}, {kick.get()}));
  pollfd wait{error.get(), POLLIN, 0};
  EXPECT_EQ(1, ::poll(&wait, 1, 5000));
  EXPECT_FALSE(takes(Request::kSetVringSize, vhost_user::VringState{0, 32}));  // while it runs
}

TEST_F(VhostUserTest, BadHeadersEndTheConnection) {
  const vhost_user::Header header{1, 7, 0xffffffff};
  ASSERT_EQ(static_cast<ssize_t>(sizeof header), ::write(front_.get(), &header, sizeof header));
  char byte = 0;
  EXPECT_EQ(0, ::read(front_.get(), &byte, 1));
  end();
  EXPECT_NE("", failure_);
}

TEST_F(VhostUserTest, ConfigurationIsReadWithinItsBounds) {
  struct {
    vhost_user::ConfigHeader header{0, 16, 0};
    std::array<std::byte, 16> data{};
  } request;
  say(Request::kGetConfig, request);
  auto message = vhost_user::receive(front_.get());
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(sizeof request, message->payload.size());
  request.header.size = 100000;
  say(Request::kGetConfig, request);
  message = vhost_user::receive(front_.get());
  ASSERT_TRUE(message.ok());
  EXPECT_TRUE(message->payload.empty());
}

}  // namespace
}  // namespace hull::vmm
