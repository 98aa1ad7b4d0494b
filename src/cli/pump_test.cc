#include "cli/pump.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "sys/file.h"

namespace hull::cli {
namespace {

/// A workload's ends and the caller's, all pipes.
struct Ends {
  sys::Pipe in, out, err;               // the workload's
  sys::Pipe typed, shown, shown_error;  // the caller's
  engine::Attachment streams;
  PumpOptions options;

  Ends() {
    for (sys::Pipe* pipe : {&in, &out, &err, &typed, &shown, &shown_error}) *pipe = *sys::make_pipe();
    streams.input = std::move(in.write_end);
    streams.output = std::move(out.read_end);
    streams.error = std::move(err.read_end);
    options.in_fd = typed.read_end.get();
    options.out_fd = shown.write_end.get();
    options.err_fd = shown_error.write_end.get();
  }
  std::string written() {
    shown.write_end.reset();
    return *sys::read_all(shown.read_end.get());
  }
};

TEST(Pump, MovesBothWaysAndEndsWithTheOutput) {
  Ends ends;
  ASSERT_TRUE(sys::write_all(ends.typed.write_end.get(), "question").ok());
  ends.typed.write_end.reset();
  std::string asked;
  std::thread workload([&] {
    asked = *sys::read_all(ends.in.read_end.get());  // ends: the caller's end of file arrives
    ASSERT_TRUE(sys::write_all(ends.out.write_end.get(), "answer").ok());
    ASSERT_TRUE(sys::write_all(ends.err.write_end.get(), "note").ok());
    ends.out.write_end.reset();
    ends.err.write_end.reset();
  });
  auto end = pump(ends.streams, ends.options);
  workload.join();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(*end, PumpEnd::kFinished);
  EXPECT_EQ(asked, "question");
  EXPECT_EQ(ends.written(), "answer");
  ends.shown_error.write_end.reset();
  EXPECT_EQ(*sys::read_all(ends.shown_error.read_end.get()), "note");
}

TEST(Pump, MovesALotThroughNarrowPipes) {
  Ends ends;
  const std::string data(8 << 20, 'x');
  std::thread workload([&] {
    ASSERT_TRUE(sys::write_all(ends.out.write_end.get(), data).ok());
    ends.out.write_end.reset();
    ends.err.write_end.reset();
  });
  std::string got;
  std::thread reader([&] { got = *sys::read_all(ends.shown.read_end.get()); });
  auto end = pump(ends.streams, ends.options);
  ends.shown.write_end.reset();
  workload.join();
  reader.join();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(got.size(), data.size());
  EXPECT_EQ(got, data);
}

TEST(Pump, WritesToAFileThatIsAppendedTo) {
  Ends ends;
  const std::string path = ::testing::TempDir() + "hull_pump_" + std::to_string(::getpid());
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  ends.options.out_fd = file.get();  // splice refuses O_APPEND
  ASSERT_TRUE(sys::write_all(ends.out.write_end.get(), "line\n").ok());
  ends.out.write_end.reset();
  ends.err.write_end.reset();
  ASSERT_TRUE(pump(ends.streams, ends.options).ok());
  EXPECT_EQ(*sys::read_file(path), "line\n");
  ::unlink(path.c_str());
}

TEST(Pump, DetachKeysEndItAndAreNotPassedOn) {
  Ends ends;
  ends.options.detach_sequence = "\x10\x11";
  ASSERT_TRUE(sys::write_all(ends.typed.write_end.get(), "ab\x10\x11").ok());
  auto end = pump(ends.streams, ends.options);
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(*end, PumpEnd::kDetached);
  ends.streams.input.reset();
  EXPECT_EQ(sys::read_all(ends.in.read_end.get()).value_or("x").find('\x10'), std::string::npos);
}

TEST(Pump, TellsWhenTheReaderIsGone) {
  Ends ends;
  ends.shown.read_end.reset();
  ASSERT_TRUE(sys::write_all(ends.out.write_end.get(), "x").ok());
  auto end = pump(ends.streams, ends.options);
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(*end, PumpEnd::kReaderGone);
}

TEST(Pump, AWorkloadThatClosesItsInputIsNoFailure) {
  Ends ends;
  ends.in.read_end.reset();
  ASSERT_TRUE(sys::write_all(ends.typed.write_end.get(), "unread").ok());
  ends.out.write_end.reset();
  ends.err.write_end.reset();
  const UniqueFd ended(::eventfd(0, EFD_CLOEXEC));
  ends.options.ended_fd = ended.get();
  std::thread later([&] { ASSERT_EQ(::eventfd_write(ended.get(), 1), 0); });
  auto end = pump(ends.streams, ends.options);
  later.join();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(*end, PumpEnd::kFinished);
}

TEST(Pump, OutputHeldOpenByOthersIsNotWaitedForAfterAnExec) {
  Ends ends;
  const UniqueFd ended(::eventfd(1, EFD_CLOEXEC));
  ends.options.ended_fd = ended.get();
  ends.options.wait_for_eof = false;
  ASSERT_TRUE(sys::write_all(ends.out.write_end.get(), "last words").ok());
  auto end = pump(ends.streams, ends.options);  // out.write_end stays open
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(ends.written(), "last words");
}

TEST(Pump, SignalsAreTaken) {
  Ends ends;
  auto watch = SignalWatch::start(true);
  ASSERT_TRUE(watch.ok());
  std::vector<std::string> seen;
  ends.options.signal_fd = watch->fd();
  ends.options.on_signal = [&](int number) {
    seen.push_back(signal_name(number));
    if (number == SIGTERM) {
      ends.out.write_end.reset();
      ends.err.write_end.reset();
    }
    return true;
  };
  ASSERT_EQ(::raise(SIGHUP), 0);
  ASSERT_EQ(::raise(SIGTERM), 0);
  ASSERT_TRUE(pump(ends.streams, ends.options).ok());
  EXPECT_THAT(seen, ::testing::UnorderedElementsAre("SIGHUP", "SIGTERM"));
}

TEST(Pump, EndsWhenTheCallerGivesUp) {
  Ends ends;
  auto watch = SignalWatch::start(true);
  ASSERT_TRUE(watch.ok());
  ends.options.signal_fd = watch->fd();
  ends.options.on_signal = [](int) { return false; };
  ASSERT_EQ(::raise(SIGINT), 0);
  EXPECT_EQ(pump(ends.streams, ends.options).value_or(PumpEnd::kFinished), PumpEnd::kGivenUp);
}

TEST(Pump, SignalNames) {
  EXPECT_EQ(signal_name(SIGTERM), "SIGTERM");
  EXPECT_EQ(signal_name(SIGRTMIN), "SIGRTMIN");
  EXPECT_EQ(signal_name(SIGRTMIN + 3), "SIGRTMIN+3");
}

}  // namespace
}  // namespace hull::cli
