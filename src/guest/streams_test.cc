#include "guest/streams.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <termios.h>

#include <functional>

#include "sys/file.h"

namespace hull::guest {
namespace {

constexpr const char* kToken = "0123456789abcdef";

class Streams : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = EventLoop::make();
    ASSERT_TRUE(made.ok());
    loop_ = std::move(*made);
    hub_ = std::make_unique<StreamHub>(*loop_);
  }

  /// A host's connection that has said `name`.
  UniqueFd open(const std::string& name) {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    hub_->accept(UniqueFd(fds[1]));
    UniqueFd ours(fds[0]);
    const ssize_t sent = ::send(ours.get(), name.data(), name.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(sent == static_cast<ssize_t>(name.size()) || errno == EPIPE);  // turned away at once
    return ours;
  }
  /// Runs the loop until `done`, for ten seconds at most.
  bool until(const std::function<bool()>& done) {
    const auto end = EventLoop::Clock::now() + std::chrono::seconds(10);
    while (!done()) {
      if (EventLoop::Clock::now() > end) return false;
      EXPECT_TRUE(loop_->run_once(std::chrono::milliseconds(1)).ok());
    }
    return true;
  }
  /// Collects what fd gives until end of file, or until `size` bytes have come.
  std::string collect(int fd, size_t size = SIZE_MAX) {
    std::string all;
    EXPECT_TRUE(until([&] {
      char buffer[65536];
      pollfd ready{fd, POLLIN, 0};
      while (all.size() < size && ::poll(&ready, 1, 0) > 0) {
        const ssize_t got = ::read(fd, buffer, std::min(sizeof buffer, size - all.size()));
        if (got <= 0) return true;
        all.append(buffer, static_cast<size_t>(got));
      }
      return all.size() >= size;
    })) << "no end after "
        << all.size();
    return all;
  }
  void settle() {
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(loop_->run_once(std::chrono::milliseconds(0)).ok());
  }
  sys::Pipe add(int number) {
    auto pipe = sys::make_pipe();
    EXPECT_TRUE(pipe.ok());
    EXPECT_TRUE(hub_->add(kToken, number, number == 0 ? std::move(pipe->write_end) : std::move(pipe->read_end)).ok());
    return std::move(*pipe);
  }
  static std::string name(int number) { return std::string(kToken) + " " + std::to_string(number) + "\n"; }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<StreamHub> hub_;
};

TEST_F(Streams, OutputArrivesWholeAndEnds) {
  sys::Pipe pipe = add(1);
  const UniqueFd host = open(name(1));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  std::string sent;
  ::fcntl(pipe.write_end.get(), F_SETFL, O_NONBLOCK);
  std::string received;
  for (int i = 0; sent.size() < (3u << 20); ++i) {
    const std::string piece(1000 + i % 977, static_cast<char>('a' + i % 26));
    const ssize_t put = ::write(pipe.write_end.get(), piece.data(), piece.size());
    if (put > 0) sent.append(piece.substr(0, static_cast<size_t>(put)));
    settle();
    char buffer[5000];
    const ssize_t got = ::recv(host.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) received.append(buffer, static_cast<size_t>(got));
  }
  pipe.write_end.reset();
  received += collect(host.get());
  EXPECT_EQ(received.size(), sent.size());
  EXPECT_TRUE(received == sent);
  EXPECT_FALSE(hub_->has(kToken));
}

TEST_F(Streams, OutputWaitsForItsConnection) {
  sys::Pipe pipe = add(2);
  ASSERT_EQ(::write(pipe.write_end.get(), "early", 5), 5);
  pipe.write_end.reset();
  settle();
  const UniqueFd host = open(name(2));
  EXPECT_EQ(collect(host.get()), "OK\nearly");
}

TEST_F(Streams, EndOfOutputNeedsEveryWriterGone) {
  sys::Pipe pipe = add(1);
  UniqueFd other(::fcntl(pipe.write_end.get(), F_DUPFD_CLOEXEC, 3));
  const UniqueFd host = open(name(1));
  pipe.write_end.reset();
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  settle();
  pollfd ready{host.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 0), 0);
  ASSERT_EQ(::write(other.get(), "x", 1), 1);
  other.reset();
  EXPECT_EQ(collect(host.get()), "x");
}

TEST_F(Streams, SlowHostHoldsUpTheProgram) {
  sys::Pipe pipe = add(1);
  const UniqueFd host = open(name(1));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  ::fcntl(pipe.write_end.get(), F_SETFL, O_NONBLOCK);
  const std::string block(4096, 'q');
  size_t taken = 0;
  int refused = 0;
  while (refused < 20 && taken < (64u << 20)) {
    const ssize_t put = ::write(pipe.write_end.get(), block.data(), block.size());
    if (put > 0) taken += static_cast<size_t>(put);
    refused = put < 0 ? refused + 1 : 0;
    settle();
  }
  // Pipe, one buffer, socket: well below what an unbounded copy would have taken.
  EXPECT_LT(taken, 4u << 20);
  pipe.write_end.reset();
  EXPECT_EQ(collect(host.get()).size(), taken);
}

TEST_F(Streams, HostThatLeavesClosesTheProgramsOutput) {
  sys::Pipe pipe = add(1);
  UniqueFd host = open(name(1));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  host.reset();
  EXPECT_TRUE(until([&] { return !hub_->has(kToken); }));
  EXPECT_EQ(::write(pipe.write_end.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(Streams, HalfClosedOutputGoesOn) {
  sys::Pipe pipe = add(1);
  const UniqueFd host = open(name(1));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  ::shutdown(host.get(), SHUT_WR);
  settle();
  ASSERT_TRUE(hub_->has(kToken));
  ASSERT_EQ(::write(pipe.write_end.get(), "still here", 10), 10);
  pipe.write_end.reset();
  EXPECT_EQ(collect(host.get()), "still here");
}

TEST_F(Streams, InputArrivesWithWhatCameBehindTheName) {
  sys::Pipe pipe = add(0);
  const UniqueFd host = open(name(0) + "first ");
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  ASSERT_EQ(::send(host.get(), "second", 6, 0), 6);
  ::shutdown(host.get(), SHUT_WR);
  EXPECT_EQ(collect(pipe.read_end.get()), "first second");
}

TEST_F(Streams, InputIsBoundedAndWhole) {
  sys::Pipe pipe = add(0);
  const UniqueFd host = open(name(0));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  std::string sent;
  const std::string block(8192, 'i');
  for (int refused = 0; refused < 20;) {
    const ssize_t put = ::send(host.get(), block.data(), block.size(), MSG_DONTWAIT);
    if (put > 0) sent.append(block.substr(0, static_cast<size_t>(put)));
    refused = put < 0 ? refused + 1 : 0;
    settle();
  }
  EXPECT_LT(sent.size(), 4u << 20);
  ::shutdown(host.get(), SHUT_WR);
  EXPECT_EQ(collect(pipe.read_end.get()).size(), sent.size());
}

TEST_F(Streams, CloseInputKeepsWhatIsOnItsWay) {
  sys::Pipe pipe = add(0);
  const UniqueFd host = open(name(0));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  hub_->close_input_after(kToken, 5);  // overtakes the bytes
  ASSERT_EQ(::send(host.get(), "12", 2, 0), 2);
  settle();
  ASSERT_EQ(::send(host.get(), "345678", 6, 0), 6);
  EXPECT_EQ(collect(pipe.read_end.get()), "12345");
}

TEST_F(Streams, CloseInputWithoutAConnection) {
  const sys::Pipe pipe = add(0);
  hub_->close_input_after(kToken, 0);
  EXPECT_EQ(collect(pipe.read_end.get()), "");
  EXPECT_FALSE(hub_->has(kToken));
}

TEST_F(Streams, HostLearnsThatNobodyReadsInput) {
  sys::Pipe pipe = add(0);
  const UniqueFd host = open(name(0));
  EXPECT_EQ(collect(host.get(), 3), "OK\n");
  pipe.read_end.reset();
  EXPECT_EQ(collect(host.get()), "");
}

TEST_F(Streams, TerminalGoesBothWays) {
  int master = -1, slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  UniqueFd terminal(slave);
  termios raw{};
  ::tcgetattr(slave, &raw);
  ::cfmakeraw(&raw);
  ::tcsetattr(slave, TCSANOW, &raw);
  ASSERT_TRUE(hub_->add(kToken, 0, UniqueFd(::dup(master))).ok());
  ASSERT_TRUE(hub_->add(kToken, 1, UniqueFd(master)).ok());
  const UniqueFd in = open(name(0)), out = open(name(1));
  EXPECT_EQ(collect(out.get(), 3), "OK\n");
  ASSERT_EQ(::send(in.get(), "typed", 5, 0), 5);
  EXPECT_EQ(collect(slave, 5), "typed");
  ASSERT_EQ(::write(slave, "shown", 5), 5);
  terminal.reset();
  EXPECT_EQ(collect(out.get()), "shown");
  EXPECT_EQ(collect(in.get()), "OK\n");
}

TEST_F(Streams, StrangersAreTurnedAway) {
  const sys::Pipe pipe = add(1);
  EXPECT_EQ(collect(open("fedcba9876543210 1\n").get()), "no such stream\n");
  EXPECT_EQ(collect(open(name(2)).get()), "no such stream\n");
  EXPECT_EQ(collect(open("\n").get()), "expected: <token> <0|1|2>\n");
  EXPECT_EQ(collect(open(std::string(200, 'a')).get()), "expected: <token> <0|1|2>\n");
  const UniqueFd first = open(name(1));
  EXPECT_EQ(collect(first.get(), 3), "OK\n");
  EXPECT_EQ(collect(open(name(1)).get()), "this stream is open already\n");
  // One that says nothing does not hold up the others.
  std::vector<UniqueFd> silent;
  for (size_t i = 0; i < StreamHub::kMaxNameless + 5; ++i) silent.push_back(open("0"));
  settle();
  EXPECT_EQ(collect(silent.back().get()), "");
}

TEST_F(Streams, TokensAndNumbersAreUnique) {
  const sys::Pipe pipe = add(1);
  auto again = sys::make_pipe();
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(hub_->add(kToken, 1, std::move(again->read_end)).error().kind(), ErrorKind::kExists);
  EXPECT_TRUE(StreamHub::valid_token(kToken));
  for (const char* bad : {"", "1234567", "0123456789ABCDEF", "0123456 89", "../../../x"}) {
    EXPECT_FALSE(StreamHub::valid_token(bad)) << bad;
  }
  EXPECT_FALSE(StreamHub::valid_token(std::string(65, 'a')));
}

}  // namespace
}  // namespace hull::guest
