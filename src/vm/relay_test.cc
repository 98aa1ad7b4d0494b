#include "vm/relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "sys/file.h"
#include "vm/outcome.h"
#include "vm/text_tail.h"

namespace hull::vm {
namespace {

struct Pair {
  UniqueFd ours, theirs;
};
Pair make_pair() {
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  ::fcntl(pair[0], F_SETFL, O_NONBLOCK);
  return {UniqueFd(pair[0]), UniqueFd(pair[1])};
}

void run_to_end(Pump& pump) {
  PollSet set;
  while (!pump.done()) {
    set.clear();
    pump.collect(set);
    ASSERT_TRUE(set.wait(10000).ok());
  }
}

TEST(Pump, MovesMoreThanItHolds) {
  Pair guest = make_pair();
  auto pipe = sys::make_pipe();
  ASSERT_TRUE(pipe.ok());
  const std::string sent(1 << 20, 'x');
  std::thread writer([&] {
    EXPECT_TRUE(sys::write_all(guest.theirs.get(), sent).ok());
    guest.theirs.reset();
  });
  std::string got;
  std::thread reader([&] { got = sys::read_all(pipe->read_end.get()).value_or(""); });
  {
    Pump pump(guest.ours.get(), pipe->write_end.get(), false);
    run_to_end(pump);
  }
  pipe->write_end.reset();
  writer.join();
  reader.join();
  EXPECT_EQ(got, sent);
}

TEST(Pump, LeavesTheOthersDescriptionBlocking) {
  Pair guest = make_pair();
  auto pipe = sys::make_pipe();
  ASSERT_TRUE(pipe.ok());
  const Pump pump(guest.ours.get(), pipe->write_end.get(), false);
  EXPECT_EQ(::fcntl(pipe->write_end.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(Pump, EndsWhenNobodyReads) {
  ::signal(SIGPIPE, SIG_IGN);
  Pair guest = make_pair();
  auto pipe = sys::make_pipe();
  ASSERT_TRUE(pipe.ok());
  Pump pump(guest.ours.get(), pipe->write_end.get(), false);
  pipe->read_end.reset();
  ASSERT_EQ(::write(guest.theirs.get(), "x", 1), 1);
  run_to_end(pump);
  EXPECT_TRUE(pump.done());
}

TEST(Pump, ReadsNothingMoreWhileAReaderSleeps) {
  Pair guest = make_pair();
  auto pipe = sys::make_pipe();
  ASSERT_TRUE(pipe.ok());
  Pump pump(guest.ours.get(), pipe->write_end.get(), false);
  ::fcntl(guest.theirs.get(), F_SETFL, O_NONBLOCK);
  const std::string block(4096, 'x');
  size_t taken = 0;
  PollSet set;
  for (int i = 0; i < 2000; ++i) {
    const ssize_t put = ::write(guest.theirs.get(), block.data(), block.size());
    if (put > 0) taken += static_cast<size_t>(put);
    set.clear();
    pump.collect(set);
    ASSERT_TRUE(set.wait(0).ok());
  }
  EXPECT_TRUE(pump.pending());
  EXPECT_LT(taken, 2u << 20);  // pipe, buffer and socket; not all of the eight megabytes
}

TEST(Outcome, ComesBack) {
  EXPECT_TRUE(decode_outcome(encode_outcome({})).ok());
  const auto again = decode_outcome(encode_outcome(Error(ErrorKind::kTimeout, "too late: really")));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().kind(), ErrorKind::kTimeout);
  EXPECT_EQ(again.error().message(), "too late: really");
  EXPECT_EQ(decode_outcome("99 x").error().kind(), ErrorKind::kCorrupt);
  EXPECT_EQ(decode_outcome("").error().kind(), ErrorKind::kCorrupt);
}

TEST(TextTail, KeepsTheEnd) {
  TextTail tail(100);
  for (int i = 0; i < 1000; ++i) tail.append("line " + std::to_string(i) + "\r\n");
  EXPECT_LE(tail.text().size(), 200u);
  EXPECT_EQ(tail.last_lines(2), "line 998\nline 999");
  tail.append("\n\033[1mpanic\n\n");
  EXPECT_EQ(tail.last_lines(2, " | "), "line 999 | [1mpanic");
  EXPECT_EQ(TextTail().last_lines(3), "");
}

TEST(DrainedPipe, CopiesNoMoreThanItsLimit) {
  auto pipe = sys::make_pipe();
  ASSERT_TRUE(pipe.ok());
  UniqueFd copy(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(copy);
  const int kept = copy.get();
  DrainedPipe drained(std::move(pipe->read_end), std::move(copy));
  const std::string block(60000, 'y');
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(sys::write_all(pipe->write_end.get(), block).ok());
    drained.drain();
  }
  EXPECT_EQ(::lseek(kept, 0, SEEK_END), static_cast<off_t>(DrainedPipe::kMostCopied));
  pipe->write_end.reset();
  drained.drain();
  EXPECT_LT(drained.fd(), 0);
}

}  // namespace
}  // namespace hull::vm
