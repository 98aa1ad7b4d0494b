#include "vmm/virtio/vsock.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <thread>

#include "sys/fd_passing.h"
#include "vmm/virtio/simulated_driver.h"

namespace hull::vmm {
namespace {

using simulated::kWrite;
using Op = VsockOperation;

constexpr uint32_t kBufferBytes = 4096;

struct Packet {
  VsockHeader header;
  std::string data;
  Op operation() const { return static_cast<Op>(header.operation); }
};

/// A guest's vsock driver: keeps the receive queue filled, counts credit like Linux.
class Guest {
 public:
  explicit Guest(VirtioDevice* device) : driver_(device) {}

  void start(int receive_buffers = 32) {
    ASSERT_TRUE(driver_.start().ok());
    for (int i = 0; i < receive_buffers; ++i) give_buffer();
    driver_.ring(0).notify();
  }
  void give_buffer() { give(driver_.memory.allocate(kBufferAt + kBufferBytes)); }
  void send(Packet packet) {
    packet.header.size = static_cast<uint32_t>(packet.data.size());
    send_raw(std::string(reinterpret_cast<const char*>(&packet.header), sizeof packet.header) + packet.data);
  }
  void send_raw(std::string bytes) {
    // A few places in turn, more than the queue has.
    if (sends_.size() < 100) sends_.push_back(driver_.memory.allocate(40000));
    const uint64_t at = sends_[next_send_++ % sends_.size()];
    ASSERT_TRUE(driver_.memory.guest().write(at, std::as_bytes(std::span(bytes))));
    driver_.ring(1).add({{at, static_cast<uint32_t>(bytes.size()), 0, 0}});
    driver_.ring(1).notify();
  }
  void send(Op operation, uint32_t host_port, uint32_t guest_port, std::string data = {}, uint32_t flags = 0) {
    Packet packet;
    packet.header.source_cid = 3;
    packet.header.destination_cid = kVsockHostCid;
    packet.header.source_port = guest_port;
    packet.header.destination_port = host_port;
    packet.header.type = kVsockStream;
    packet.header.operation = static_cast<uint16_t>(operation);
    packet.header.flags = flags;
    packet.header.buffer_bytes = buffer_bytes;
    packet.header.forwarded_bytes = forwarded;
    packet.data = std::move(data);
    send(packet);
  }
  /// The next packet that the device sends; its buffer is given back.
  std::optional<Packet> receive(int timeout_ms = 5000) {
    const auto used = driver_.ring(0).wait_used(timeout_ms);
    if (!used) return std::nullopt;
    Packet packet;
    const uint64_t at = places_.at(used->id);
    EXPECT_TRUE(driver_.memory.guest().load(at, &packet.header));
    EXPECT_EQ(sizeof(VsockHeader) + packet.header.size, used->written);
    packet.data = driver_.memory.text(at + kBufferAt, packet.header.size);
    places_.erase(used->id);
    give(at);
    driver_.ring(0).notify();
    EXPECT_EQ(kVsockHostCid, packet.header.source_cid);
    EXPECT_EQ(3u, packet.header.destination_cid);
    return packet;
  }
  /// The same, expecting an operation.
  Packet expect(Op operation) {
    auto packet = receive();
    EXPECT_TRUE(packet) << "no packet, wanted " << static_cast<int>(operation);
    if (!packet) return {};
    EXPECT_EQ(operation, packet->operation());
    return *packet;
  }
  simulated::Driver& driver() { return driver_; }

  uint32_t buffer_bytes = 1 << 20, forwarded = 0;

 private:
  static constexpr uint64_t kBufferAt = 64;  // behind the header, as Linux 6.1 does: two descriptors
  void give(uint64_t at) {
    places_[driver_.ring(0).add({{at, sizeof(VsockHeader), kWrite, 0}, {at + kBufferAt, kBufferBytes, kWrite, 0}})] =
        at;
  }

  simulated::Driver driver_;
  std::map<uint32_t, uint64_t> places_;
  std::vector<uint64_t> sends_;
  size_t next_send_ = 0;
};

class VsockTest : public testing::Test {
 protected:
  VsockTest() {
    std::string pattern = "/tmp/hull-vsock-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ + "/vsock";
  }
  ~VsockTest() override {
    guest_.reset();
    device_.reset();
    std::filesystem::remove_all(folder_);
  }
  void start() {
    auto socket = listen_vsock(path_);
    ASSERT_TRUE(socket.ok()) << socket.error().message();
    device_ = std::make_unique<VsockDevice>(std::move(*socket), VsockOptions{.cid = 3, .connect = {}});
    guest_ = std::make_unique<Guest>(device_.get());
    guest_->start();
  }
  UniqueFd connect(std::string_view greeting) {
    auto socket = sys::connect_unix(path_);
    EXPECT_TRUE(socket.ok());
    write(socket->get(), greeting);
    return std::move(*socket);
  }
  static void write(int fd, std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      ASSERT_GT(sent, 0);
      text.remove_prefix(static_cast<size_t>(sent));
    }
  }
  /// Exactly so many bytes, less at the end.
  static std::string read(int fd, size_t size) {
    std::string out;
    while (out.size() < size) {
      pollfd wait{fd, POLLIN, 0};
      if (::poll(&wait, 1, 5000) != 1) break;
      std::string piece(size - out.size(), '\0');
      const ssize_t got = ::recv(fd, piece.data(), piece.size(), 0);
      if (got <= 0) break;
      out.append(piece, 0, static_cast<size_t>(got));
    }
    return out;
  }
  static bool at_end(int fd) {
    pollfd wait{fd, POLLIN, 0};
    char byte = 0;
    return ::poll(&wait, 1, 5000) == 1 && ::recv(fd, &byte, 1, 0) <= 0;
  }
  /// A connection from the host to guest port 1024; its host port.
  UniqueFd open_from_host(uint32_t* host_port) {
    UniqueFd socket = connect("CONNECT 1024\n");
    const Packet request = guest_->expect(Op::kRequest);
    EXPECT_EQ(1024u, request.header.destination_port);
    *host_port = request.header.source_port;
    guest_->send(Op::kResponse, *host_port, 1024);
    const std::string ok = "OK " + std::to_string(*host_port) + "\n";
    EXPECT_EQ(ok, read(socket.get(), ok.size()));
    return socket;
  }
  /// A listener where the guest's connections to the port arrive.
  UniqueFd listen_port(uint32_t port) {
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX};
    const std::string path = path_ + "_" + std::to_string(port);
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(0, ::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address));
    EXPECT_EQ(0, ::listen(listener.get(), 8));
    return listener;
  }
  UniqueFd open_from_guest(uint32_t port, uint32_t guest_port) {
    const UniqueFd listener = listen_port(port);
    guest_->send(Op::kRequest, port, guest_port);
    UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const Packet response = guest_->expect(Op::kResponse);
    EXPECT_EQ(port, response.header.source_port);
    EXPECT_EQ(kVsockWindow, response.header.buffer_bytes);
    return socket;
  }

  std::string folder_, path_;
  std::unique_ptr<VsockDevice> device_;
  std::unique_ptr<Guest> guest_;
};

TEST_F(VsockTest, ConfigurationSaysTheCid) {
  start();
  uint64_t cid = 0;
  device_->read_config(0, std::as_writable_bytes(std::span(&cid, 1)));
  EXPECT_EQ(3u, cid);
}

TEST_F(VsockTest, HostConnectsAndBothTalk) {
  start();
  uint32_t port = 0;
  const UniqueFd socket = open_from_host(&port);
  write(socket.get(), "to the guest");
  EXPECT_EQ("to the guest", guest_->expect(Op::kData).data);
  guest_->send(Op::kData, port, 1024, "to the host");
  EXPECT_EQ("to the host", read(socket.get(), 11));
  // The guest closes.
  guest_->send(Op::kShutdown, port, 1024, {}, kVsockNoReceive | kVsockNoSend);
  guest_->expect(Op::kReset);
  EXPECT_TRUE(at_end(socket.get()));
}

TEST_F(VsockTest, BytesBehindTheGreetingAreData) {
  start();
  const UniqueFd socket = connect("CONNECT 7\nearly");
  const Packet request = guest_->expect(Op::kRequest);
  guest_->send(Op::kResponse, request.header.source_port, 7);
  EXPECT_EQ("early", guest_->expect(Op::kData).data);
}

TEST_F(VsockTest, GreetingInPieces) {
  start();
  const UniqueFd socket = connect("CONN");
  EXPECT_FALSE(guest_->receive(50));
  write(socket.get(), "ECT 7");
  EXPECT_FALSE(guest_->receive(50));
  write(socket.get(), "\n");
  EXPECT_EQ(7u, guest_->expect(Op::kRequest).header.destination_port);
}

TEST_F(VsockTest, WrongGreetingsAreClosed) {
  start();
  for (const char* greeting : {"HELLO\n", "CONNECT\n", "CONNECT x\n", "CONNECT 4294967295\n", "CONNECT -1\n",
                               "CONNECT 1024 \n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    const UniqueFd socket = connect(greeting);
    EXPECT_TRUE(at_end(socket.get())) << greeting;
  }
  EXPECT_FALSE(guest_->receive(20));
}

TEST_F(VsockTest, GuestConnects) {
  start();
  const UniqueFd socket = open_from_guest(1023, 5000);
  guest_->send(Op::kData, 1023, 5000, "ready");
  EXPECT_EQ("ready", read(socket.get(), 5));
  write(socket.get(), "good");
  EXPECT_EQ("good", guest_->expect(Op::kData).data);
}

TEST_F(VsockTest, GuestIsRefusedWhereNobodyListens) {
  start();
  guest_->send(Op::kRequest, 99, 5000);
  const Packet reset = guest_->expect(Op::kReset);
  EXPECT_EQ(99u, reset.header.source_port);
  EXPECT_EQ(5000u, reset.header.destination_port);
  // Nor does a path lead out of the folder: the port is a number.
  Packet other;
  other.header = {3, 7, 1, 99, 0, kVsockStream, static_cast<uint16_t>(Op::kRequest), 0, 0, 0};
  guest_->send(other);
  auto refused = guest_->driver().ring(0).wait_used();
  EXPECT_TRUE(refused);
}

TEST_F(VsockTest, HostClosesItsSendingHalf) {
  start();
  uint32_t port = 0;
  const UniqueFd socket = open_from_host(&port);
  write(socket.get(), "last words");
  ::shutdown(socket.get(), SHUT_WR);
  EXPECT_EQ("last words", guest_->expect(Op::kData).data);
  EXPECT_EQ(kVsockNoSend, guest_->expect(Op::kShutdown).header.flags);
  guest_->send(Op::kData, port, 1024, "answer");
  EXPECT_EQ("answer", read(socket.get(), 6));
  guest_->send(Op::kShutdown, port, 1024, {}, kVsockNoReceive | kVsockNoSend);
  guest_->expect(Op::kReset);
  EXPECT_TRUE(at_end(socket.get()));
}

TEST_F(VsockTest, GuestClosesItsSendingHalf) {
  start();
  uint32_t port = 0;
  const UniqueFd socket = open_from_host(&port);
  guest_->send(Op::kData, port, 1024, "question");
  guest_->send(Op::kShutdown, port, 1024, {}, kVsockNoSend);
  EXPECT_EQ("question", read(socket.get(), 100));  // up to the end
  write(socket.get(), "answer");
  EXPECT_EQ("answer", guest_->expect(Op::kData).data);
  // Saying more after the end is a violation.
  guest_->send(Op::kData, port, 1024, "more");
  guest_->expect(Op::kReset);
}

TEST_F(VsockTest, HostGoesAway) {
  start();
  uint32_t port = 0;
  UniqueFd socket = open_from_host(&port);
  write(socket.get(), "bye");
  socket.reset();
  EXPECT_EQ("bye", guest_->expect(Op::kData).data);
  uint32_t flags = 0;
  while (flags != (kVsockNoReceive | kVsockNoSend)) {
    const auto packet = guest_->receive();
    ASSERT_TRUE(packet);
    ASSERT_EQ(Op::kShutdown, packet->operation());
    flags |= packet->header.flags;
  }
  guest_->send(Op::kReset, port, 1024);
  // The ports are free again.
  guest_->send(Op::kData, port, 1024, "x");
  guest_->expect(Op::kReset);
}

TEST_F(VsockTest, RequestIsWithdrawnWhenTheHostGoes) {
  start();
  UniqueFd socket = connect("CONNECT 1024\n");
  guest_->expect(Op::kRequest);
  socket.reset();
  guest_->expect(Op::kReset);
}

TEST_F(VsockTest, GuestRefuses) {
  start();
  const UniqueFd socket = connect("CONNECT 1024\n");
  const Packet request = guest_->expect(Op::kRequest);
  guest_->send(Op::kReset, request.header.source_port, 1024);
  EXPECT_TRUE(at_end(socket.get()));
}

TEST_F(VsockTest, DeviceKeepsToTheGuestsCredit) {
  start();
  guest_->buffer_bytes = 10000;
  uint32_t port = 0;
  const UniqueFd socket = open_from_host(&port);
  const std::string data(25000, 'd');
  write(socket.get(), data);
  std::string got;
  bool asked = false;
  while (const auto packet = guest_->receive(200)) {
    if (packet->operation() == Op::kCreditRequest) {
      asked = true;
      continue;
    }
    ASSERT_EQ(Op::kData, packet->operation());
    got += packet->data;
  }
  EXPECT_EQ(10000u, got.size());
  EXPECT_TRUE(asked);
  while (got.size() < data.size()) {
    guest_->forwarded = static_cast<uint32_t>(got.size());
    guest_->send(Op::kCreditUpdate, port, 1024);
    const auto packet = guest_->receive();
    ASSERT_TRUE(packet);
    if (packet->operation() == Op::kData) got += packet->data;
  }
  EXPECT_EQ(data, got);
  // Credit that makes no sense (more forwarded than sent) is no credit.
  guest_->forwarded = 1u << 31;
  guest_->send(Op::kCreditUpdate, port, 1024);
  write(socket.get(), "x");
  const auto packet = guest_->receive(100);
  EXPECT_TRUE(!packet || packet->operation() == Op::kCreditRequest);
}

TEST_F(VsockTest, SlowHostHoldsTheGuestBack) {
  start();
  const UniqueFd socket = open_from_guest(1023, 5000);
  // Nobody reads: the socket's own buffer fills, then the window.
  const std::string piece(32768, 'g');
  uint32_t told = 0, sent = 0;
  while (sent - told + piece.size() <= kVsockWindow) {
    guest_->send(Op::kData, 1023, 5000, piece);
    sent += static_cast<uint32_t>(piece.size());
    ASSERT_TRUE(guest_->driver().ring(1).wait_used());
    while (const auto packet = guest_->receive(20)) {
      ASSERT_EQ(Op::kCreditUpdate, packet->operation());
      told = packet->header.forwarded_bytes;
    }
    ASSERT_LT(sent, 3u << 20);
  }
  // A guest that goes on without credit is cut off, but what it said within it arrives.
  EXPECT_GT(sent, kVsockWindow);
  EXPECT_EQ(std::string(sent, 'g'), read(socket.get(), sent));
  const Packet update = guest_->expect(Op::kCreditUpdate);
  EXPECT_GT(update.header.forwarded_bytes, told);
}

TEST_F(VsockTest, GuestWithoutCreditIsReset) {
  start();
  const UniqueFd socket = open_from_guest(1023, 5000);
  bool reset = false;
  for (int i = 0; i < 100 && !reset; ++i) {
    guest_->send(Op::kData, 1023, 5000, std::string(32768, 'g'));
    const auto packet = guest_->receive(50);
    reset = packet && packet->operation() == Op::kReset;
  }
  EXPECT_TRUE(reset);
  EXPECT_FALSE(device_->broken());
}

TEST_F(VsockTest, WhatAClosedGuestSaidStillArrives) {
  start();
  const UniqueFd socket = open_from_guest(1023, 5000);
  std::string all;
  for (int i = 0; i < 12; ++i) {
    const std::string piece(32768, static_cast<char>('a' + i));
    guest_->send(Op::kData, 1023, 5000, piece);
    all += piece;
  }
  guest_->send(Op::kShutdown, 1023, 5000, {}, kVsockNoReceive | kVsockNoSend);
  guest_->send(Op::kReset, 1023, 5000);  // tired of waiting
  for (int i = 0; i < 14; ++i) ASSERT_TRUE(guest_->driver().ring(1).wait_used());
  EXPECT_EQ(all, read(socket.get(), all.size()));
  EXPECT_TRUE(at_end(socket.get()));
}

TEST_F(VsockTest, UnknownConnectionsAndTypesAreReset) {
  start();
  guest_->send(Op::kData, 1, 2, "x");
  guest_->expect(Op::kReset);
  guest_->send(Op::kReset, 1, 2);  // no answer to this one
  Packet packet;
  packet.header = {3, kVsockHostCid, 2, 1, 0, 2, static_cast<uint16_t>(Op::kRequest), 0, 0, 0};
  guest_->send(packet);
  EXPECT_EQ(2u, guest_->expect(Op::kReset).header.type);
  packet.header.source_cid = 4;  // not the guest's
  guest_->send(packet);
  EXPECT_FALSE(guest_->receive(50));
}

TEST_F(VsockTest, MalformedPacketsBreakTheDevice) {
  start();
  guest_->send_raw("short");
  EXPECT_TRUE(guest_->driver().wait_config());
  EXPECT_TRUE(device_->broken());
  device_->deactivate();
  EXPECT_FALSE(device_->broken());
}

TEST_F(VsockTest, LengthBeyondTheBufferBreaksTheDevice) {
  start();
  VsockHeader header{3, kVsockHostCid, 2, 1, 100, kVsockStream, static_cast<uint16_t>(Op::kData), 0, 0, 0};
  guest_->send_raw(std::string(reinterpret_cast<const char*>(&header), sizeof header) + "less than 100");
  EXPECT_TRUE(guest_->driver().wait_config());
  EXPECT_TRUE(device_->broken());
}

TEST_F(VsockTest, ConnectionsAreBounded) {
  start();
  const UniqueFd listener = listen_port(1);
  std::vector<UniqueFd> accepted;
  for (uint32_t i = 0; i < kVsockConnections + 10; ++i) {
    guest_->send(Op::kRequest, 1, 1000 + i);
    const auto packet = guest_->receive();
    ASSERT_TRUE(packet);
    if (i < kVsockConnections) {
      ASSERT_EQ(Op::kResponse, packet->operation()) << i;
      accepted.emplace_back(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    } else {
      ASSERT_EQ(Op::kReset, packet->operation()) << i;
    }
    ASSERT_TRUE(guest_->driver().ring(1).wait_used());
  }
}

TEST_F(VsockTest, MegabytesBothWays) {
  start();
  uint32_t port = 0;
  const UniqueFd socket = open_from_host(&port);
  constexpr size_t kBytes = 8 << 20;
  std::string out;
  for (size_t i = 0; i < kBytes / 8; ++i) {
    out.append(reinterpret_cast<const char*>(&i), 8);
  }
  std::thread writer([&] { write(socket.get(), out); });
  std::string got;
  while (got.size() < kBytes) {
    const auto packet = guest_->receive();
    ASSERT_TRUE(packet);
    got += packet->data;
    guest_->forwarded += packet->header.size;
    if (packet->operation() == Op::kCreditRequest) guest_->send(Op::kCreditUpdate, port, 1024);
  }
  writer.join();
  EXPECT_TRUE(out == got);
}

TEST_F(VsockTest, StaleSocketIsReplacedAndALiveOneIsNot) {
  start();
  const auto second = listen_vsock(path_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(ErrorKind::kConflict, second.error().kind());
  guest_.reset();
  device_.reset();
  EXPECT_TRUE(listen_vsock(path_).ok());
  ASSERT_EQ(0, ::unlink(path_.c_str()));
  ASSERT_EQ(0, ::mkdir(path_.c_str(), 0700));
  EXPECT_FALSE(listen_vsock(path_).ok());
  ASSERT_EQ(0, ::rmdir(path_.c_str()));
  EXPECT_FALSE(listen_vsock(path_ + "/none/there").ok());
  EXPECT_TRUE(listen_vsock(folder_ + "/" + std::string(80, 'n')).ok());
  EXPECT_FALSE(listen_vsock(folder_ + "/" + std::string(120, 'n')).ok());
}

}  // namespace
}  // namespace hull::vmm
