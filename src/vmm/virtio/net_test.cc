#include "vmm/virtio/net.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>

#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::kWrite;

constexpr size_t kHeader = NetDevice::kHeaderBytes;
constexpr uint64_t kMergeable = 1ull << 15;
constexpr MacAddress kMac{2, 0x42, 0xac, 0x11, 0, 2};

std::string frame(size_t size, char fill) { return std::string(kHeader, '\0') + std::string(size, fill); }

/// A network card whose taps are datagram sockets.
class NetTest : public testing::Test {
 protected:
  void start(uint64_t features = ~0ull, size_t pairs = 1) {
    std::vector<UniqueFd> ports;
    for (size_t i = 0; i < pairs; ++i) {
      int ends[2];
      ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
      ports.emplace_back(ends[0]);
      peers_.emplace_back(ends[1]);
    }
    net_ = std::make_unique<NetDevice>(std::move(ports), kMac);
    driver_ = std::make_unique<simulated::Driver>(net_.get(), features);
    ASSERT_TRUE(driver_->start().ok());
  }
  ~NetTest() override { driver_.reset(); }
  void give_buffers(int count, uint32_t size, size_t queue = 0) {
    for (int i = 0; i < count; ++i) {
      const uint64_t at = driver_->memory.allocate(size);
      places_[driver_->ring(queue).add({{at, size, kWrite, 0}})] = at;
    }
    driver_->ring(queue).notify();
  }
  void arrive(const std::string& bytes, size_t peer = 0) {
    ASSERT_EQ(static_cast<ssize_t>(bytes.size()), ::send(peers_[peer].get(), bytes.data(), bytes.size(), 0));
  }
  /// A received frame with its header; empty when none comes.
  std::string receive(int timeout_ms = 5000, size_t queue = 0) {
    const auto first = driver_->ring(queue).wait_used(timeout_ms);
    if (!first) return {};
    std::string bytes = driver_->memory.text(places_.at(first->id), first->written);
    const int buffers = static_cast<uint8_t>(bytes[10]) | static_cast<uint8_t>(bytes[11]) << 8;
    for (int i = 1; i < buffers; ++i) {
      const auto next = driver_->ring(queue).take_used();  // all at once
      EXPECT_TRUE(next);
      if (next) bytes += driver_->memory.text(places_.at(next->id), next->written);
    }
    EXPECT_GE(buffers, 1);
    bytes[10] = bytes[11] = '\0';
    return bytes;
  }
  void transmit(const std::string& bytes, size_t queue = 1) {
    const uint64_t at = driver_->memory.place(bytes);
    const auto rest = static_cast<uint32_t>(bytes.size() - kHeader);
    driver_->ring(queue).add({{at, kHeader, 0, 0}, {at + kHeader, rest, 0, 0}});
    driver_->ring(queue).notify();
  }
  std::string heard(size_t peer = 0, int timeout_ms = 5000) {
    pollfd wait{peers_[peer].get(), POLLIN, 0};
    if (::poll(&wait, 1, timeout_ms) != 1) return {};
    std::string bytes(70000, '\0');
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(::recv(peers_[peer].get(), bytes.data(), bytes.size(), 0), 0)));
    return bytes;
  }

  std::vector<UniqueFd> peers_;
  std::unique_ptr<NetDevice> net_;
  std::unique_ptr<simulated::Driver> driver_;
  std::map<uint32_t, uint64_t> places_;
};

TEST_F(NetTest, FramesGoBothWays) {
  start();
  MacAddress mac{};
  net_->read_config(0, std::as_writable_bytes(std::span(mac)));
  EXPECT_EQ(kMac, mac);
  transmit(frame(100, 't'));
  EXPECT_EQ(frame(100, 't'), heard());
  give_buffers(8, 1526);
  arrive(frame(1000, 'r'));
  EXPECT_EQ(frame(1000, 'r'), receive());
  arrive(frame(60, 'x'));
  arrive(frame(61, 'y'));
  EXPECT_EQ(frame(60, 'x'), receive());
  EXPECT_EQ(frame(61, 'y'), receive());
}

TEST_F(NetTest, ACardLosesItsTapAndGetsAnother) {
  start();
  const auto link = [&] {
    uint16_t status = 0;
    net_->read_config(6, std::as_writable_bytes(std::span(&status, 1)));
    return status;
  };
  // Stops the card, changes it and lets it go on where it was, as the transport does.
  const auto change = [&](const std::function<void()>& work) {
    const std::vector<uint16_t> next = net_->deactivate();
    work();
    for (size_t i = 0; i < next.size(); ++i) driver_->ring(i).addresses.next_available = next[i];
    ASSERT_TRUE(driver_->start().ok());
  };
  EXPECT_EQ(link(), 1);
  give_buffers(8, 1526);
  transmit(frame(100, 'a'));
  EXPECT_EQ(frame(100, 'a'), heard());
  EXPECT_TRUE(driver_->ring(1).wait_used());
  change([&] { net_->remove_backing(); });
  EXPECT_EQ(link(), 0);
  EXPECT_FALSE(net_->has_backing());
  transmit(frame(100, 'b'));
  EXPECT_TRUE(driver_->ring(1).wait_used()) << "what is sent without a tap is lost, not kept";
  char byte = 0;
  EXPECT_LE(::recv(peers_[0].get(), &byte, 1, 0), 0);

  int ends[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
  std::vector<UniqueFd> ports;
  ports.emplace_back(ends[0]);
  peers_.emplace_back(ends[1]);
  MacAddress other_mac = kMac;
  ++other_mac[5];
  EXPECT_FALSE(net_->accepts_backing_of(NetDevice({}, kMac))) << "another number of pairs";
  EXPECT_FALSE(net_->accepts_backing_of(NetDevice({}, other_mac)));
  NetDevice other(std::move(ports), kMac);
  ASSERT_TRUE(net_->accepts_backing_of(other));
  change([&] { net_->take_backing(other); });
  EXPECT_EQ(link(), 1);
  transmit(frame(100, 'c'));
  EXPECT_EQ(frame(100, 'c'), heard(1));
  arrive(frame(200, 'd'), 1);
  EXPECT_EQ(frame(200, 'd'), receive());
}

TEST_F(NetTest, LargeFramesAreMergedOverBuffers) {
  start();
  give_buffers(60, 1500);
  const std::string large = frame(60000, 'l');
  arrive(large);
  EXPECT_TRUE(large == receive());
  arrive(frame(70, 's'));
  EXPECT_EQ(frame(70, 's'), receive());
}

TEST_F(NetTest, WithoutMergingAFrameTakesOneBuffer) {
  start(~kMergeable);
  give_buffers(2, 2000);
  arrive(frame(3000, 'b'));  // does not fit, is lost
  arrive(frame(1900, 'f'));
  EXPECT_EQ(frame(1900, 'f'), receive());
  arrive(frame(50, 'g'));
  EXPECT_EQ(frame(50, 'g'), receive());
}

TEST_F(NetTest, FramesWaitForBuffers) {
  start();
  arrive(frame(100, '1'));
  arrive(frame(100, '2'));
  EXPECT_EQ("", receive(50));
  give_buffers(1, 1526);
  EXPECT_EQ(frame(100, '1'), receive());
  EXPECT_EQ("", receive(50));
  give_buffers(1, 1526);
  EXPECT_EQ(frame(100, '2'), receive());
}

TEST_F(NetTest, TransmitWaitsForThePort) {
  start();
  const int small = 4096;
  ASSERT_EQ(0, ::setsockopt(peers_[0].get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
  for (int i = 0; i < 30; ++i) transmit(frame(20000, static_cast<char>('a' + i % 26)));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(frame(20000, static_cast<char>('a' + i % 26)) == heard()) << i;
}

TEST_F(NetTest, StubsAndGiantsAreDropped) {
  start();
  transmit(frame(5, 'x'));
  driver_->ring(1).add({{driver_->memory.allocate(8), 8, 0, 0}});
  const uint64_t giant = driver_->memory.allocate(70000);
  driver_->ring(1).add({{giant, 70000, 0, 0}});
  transmit(frame(64, 'o'));
  EXPECT_EQ(frame(64, 'o'), heard());
  EXPECT_FALSE(net_->broken());
}

TEST_F(NetTest, ReceiveBufferWithoutRoomBreaksTheDevice) {
  start();
  give_buffers(1, 11);
  arrive(frame(64, 'x'));
  EXPECT_TRUE(driver_->wait_config());
  EXPECT_TRUE(net_->broken());
}

TEST_F(NetTest, SeveralPairs) {
  start(~0ull, 2);
  ASSERT_EQ(5u, net_->queue_sizes().size());
  for (size_t pair = 0; pair < 2; ++pair) {
    transmit(frame(64, 'p'), 2 * pair + 1);
    EXPECT_EQ(frame(64, 'p'), heard(pair));
    places_.clear();
    give_buffers(4, 1526, 2 * pair);
    arrive(frame(77, 'q'), pair);
    EXPECT_EQ(frame(77, 'q'), receive(5000, 2 * pair));
  }
  const auto control = [&](const std::string& command) {
    const uint64_t answer = driver_->memory.place("?");
    driver_->ring(4).add(
        {{driver_->memory.place(command), static_cast<uint32_t>(command.size()), 0, 0}, {answer, 1, kWrite, 0}});
    driver_->ring(4).notify();
    EXPECT_TRUE(driver_->ring(4).wait_used());
    return static_cast<int>(driver_->memory.text(answer, 1)[0]);
  };
  EXPECT_EQ(0, control({"\4\0\2\0", 4}));
  EXPECT_EQ(1, control({"\4\0\3\0", 4}));
  EXPECT_EQ(1, control({"\4\0\0\0", 4}));
  EXPECT_EQ(1, control({"\4\0", 2}));
  EXPECT_EQ(1, control({"\1\0\1", 3}));
}

TEST_F(NetTest, StagedBuffersAreGivenBackAtTheEnd) {
  start();
  give_buffers(8, 1526);
  arrive(frame(64, 'x'));
  EXPECT_EQ(frame(64, 'x'), receive());
  const auto next = net_->deactivate();
  EXPECT_EQ(1, next[0]);  // one was used
}

TEST(Net, MacAddresses) {
  EXPECT_EQ(kMac, parse_mac("02:42:ac:11:00:02").value());
  EXPECT_EQ(kMac, parse_mac("02:42:AC:11:00:02").value());
  for (const char* wrong : {"", "02:42:ac:11:00", "02-42-ac-11-00-02", "01:00:5e:00:00:01", "02:42:ac:11:00:0g",
                            "02:42:ac:11:00:02:03", "0x:42:ac:11:00:02"}) {
    EXPECT_FALSE(parse_mac(wrong).ok()) << wrong;
  }
}

TEST(Net, OnlyTapsAreTaken) {
  UniqueFd event = make_event().value();
  NetConfig config;
  config.mac = "02:42:ac:11:00:02";
  config.tap_fd = event.get();
  EXPECT_FALSE(NetDevice::create(config).ok());
  config.tap_fd = -1;
  EXPECT_FALSE(NetDevice::create(config).ok());
  config.queue_pairs = 3;
  EXPECT_FALSE(NetDevice::create(config).ok());
}

}  // namespace
}  // namespace hull::vmm
