#include "guest/ttrpc.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

namespace hull::guest::ttrpc {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Pair {
  UniqueFd ours, theirs;
};
Pair make_pair_of_sockets() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

/// A server on a thread of its own until its connection ends.
class Server {
 public:
  Server(UniqueFd socket, ServerConnection::Handler handler)
      : thread_([fd = socket.release(), handler = std::move(handler)]() mutable {
          ServerConnection connection(UniqueFd(fd), std::move(handler));
          while (true) {
            pollfd watched{fd, 0, 0};
            if (connection.wants_read()) watched.events |= POLLIN;
            if (connection.wants_write()) watched.events |= POLLOUT;
            ::poll(&watched, 1, -1);
            if (!connection.on_ready((watched.revents & (POLLIN | POLLHUP)) != 0, (watched.revents & POLLOUT) != 0)) {
              return;
            }
          }
        }) {}
  ~Server() { thread_.join(); }

 private:
  std::thread thread_;
};

Deadline soon() { return after(seconds(20)); }

std::string header(uint32_t length, uint32_t stream, uint8_t type, uint8_t flags) {
  std::string out;
  for (const uint32_t value : {length, stream}) {
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  }
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  return out;
}

TEST(TtrpcFrame, HasTheProtocolsForm) {
  const auto bytes = encode({5, FrameType::kRequest, 0, "abc"});
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(*bytes, header(3, 5, 1, 0) + "abc");
}

TEST(TtrpcFrame, IsReadFromPiecesOfAnySize) {
  std::string bytes;
  for (uint32_t i = 1; i < 50; i += 2) bytes += *encode({i, FrameType::kResponse, 0, std::string(i * 7, 'x')});
  for (const size_t step : {size_t{1}, size_t{3}, size_t{11}, size_t{1000}, bytes.size()}) {
    FrameReader reader;
    uint32_t expected = 1;
    for (size_t at = 0; at < bytes.size(); at += step) {
      reader.append(std::string_view(bytes).substr(at, step));
      while (true) {
        auto frame = reader.next();
        ASSERT_TRUE(frame.ok());
        if (!frame->has_value()) break;
        EXPECT_EQ((*frame)->stream, expected);
        EXPECT_EQ((*frame)->data.size(), expected * 7);
        expected += 2;
      }
    }
    EXPECT_EQ(expected, 51u);
    EXPECT_EQ(reader.pending(), 0u);
  }
}

TEST(TtrpcFrame, RefusesWhatIsTooLongOrUnknown) {
  EXPECT_FALSE(encode({1, FrameType::kRequest, 0, std::string(kMaxDataBytes + 1, 'x')}).ok());
  EXPECT_TRUE(encode({1, FrameType::kRequest, 0, std::string(kMaxDataBytes, 'x')}).ok());
  for (const std::string& bad :
       {header(kMaxDataBytes + 1, 1, 1, 0), header(0xFFFFFFFF, 1, 1, 0), header(0, 1, 0, 0), header(0, 1, 4, 0)}) {
    FrameReader reader;
    reader.append(bad);
    const auto frame = reader.next();
    ASSERT_FALSE(frame.ok());
    EXPECT_EQ(frame.error().kind(), ErrorKind::kCorrupt);
  }
}

TEST(TtrpcResponse, KeepsKindErrnoAndText) {
  const auto failed = decode_response(encode_response(Error::from_errno(ENOENT, "open /x")));
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(failed.error().error_number(), ENOENT);
  EXPECT_EQ(failed.error().message(), "open /x: No such file or directory");

  const auto plain = decode_response(encode_response(Error(ErrorKind::kPermission, "exec /x: permission denied")));
  ASSERT_FALSE(plain.ok());
  EXPECT_EQ(plain.error().kind(), ErrorKind::kPermission);
  EXPECT_EQ(plain.error().error_number(), 0);
  EXPECT_EQ(plain.error().message(), "exec /x: permission denied");

  const auto odd = decode_response(encode_response(Error(ErrorKind::kInvalid, "name \xff\xc3\xa4\xed\xa0\x80")));
  ASSERT_FALSE(odd.ok());
  EXPECT_EQ(odd.error().message(), "name ?\xc3\xa4???");

  const auto fine = decode_response(encode_response(std::string("\0\xff payload", 10)));
  ASSERT_TRUE(fine.ok());
  EXPECT_EQ(*fine, std::string("\0\xff payload", 10));
  EXPECT_FALSE(decode_response("\xff\xff\xff").ok());
}

TEST(TtrpcResponse, ALiarDoesNotReachStandardError) {
  ::testing::internal::CaptureStderr();
  // A status whose message is no UTF-8.
  EXPECT_FALSE(decode_response(std::string_view("\x0a\x05\x08\x01\x12\x01\xff", 7)).ok());
  EXPECT_FALSE(decode_request(std::string_view("\x0a\x01\xff", 3)).ok());
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Ttrpc, CallsAndAnswers) {
  Pair pair = make_pair_of_sockets();
  Server server(std::move(pair.theirs), [](Call call, Reply reply) {
    EXPECT_EQ(call.service, "S");
    EXPECT_GT(call.timeout.count(), 0);
    if (call.method == "fail") return reply(Error::from_errno(EACCES, "no"));
    if (call.method == "double") return reply(call.payload + call.payload);
    reply(call.method + ":" + call.payload);
  });
  Client client(std::move(pair.ours));
  for (int i = 0; i < 100; ++i) {
    const auto answer = client.call("S", "echo", std::to_string(i), soon());
    ASSERT_TRUE(answer.ok()) << answer.error().message();
    EXPECT_EQ(*answer, "echo:" + std::to_string(i));
  }
  const auto failed = client.call("S", "fail", "", soon());
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().error_number(), EACCES);
  const std::string large(kMaxDataBytes - 100, 'y');
  const auto echoed = client.call("S", "e", large, soon());
  ASSERT_TRUE(echoed.ok()) << echoed.error().message();
  EXPECT_EQ(echoed->size(), large.size() + 2);
  // The answer to this one does not fit a frame any more.
  const auto too_long = client.call("S", "double", large, soon());
  ASSERT_FALSE(too_long.ok());
  EXPECT_EQ(too_long.error().kind(), ErrorKind::kNoSpace);
}

TEST(Ttrpc, ALateAnswerIsDropped) {
  Pair pair = make_pair_of_sockets();
  Reply held;
  Server server(std::move(pair.theirs), [&held](Call call, Reply reply) {
    if (call.method == "slow") {
      held = std::move(reply);
      return;
    }
    if (held) std::exchange(held, nullptr)("late");
    reply("in time");
  });
  Client client(std::move(pair.ours));
  const auto slow = client.call("S", "slow", "", after(milliseconds(30)));
  ASSERT_FALSE(slow.ok());
  EXPECT_EQ(slow.error().kind(), ErrorKind::kTimeout);
  const auto next = client.call("S", "quick", "", soon());
  ASSERT_TRUE(next.ok()) << next.error().message();
  EXPECT_EQ(*next, "in time");
}

TEST(Ttrpc, AnswersMayComeInAnyOrder) {
  Pair pair = make_pair_of_sockets();
  std::vector<Reply> held;
  Server server(std::move(pair.theirs), [&held](Call, Reply reply) {
    held.push_back(std::move(reply));
    if (held.size() < 3) return;
    for (size_t i = held.size(); i-- > 0;) held[i](std::to_string(i));
  });
  Client client(std::move(pair.ours));
  ASSERT_TRUE(client.send("S", "m", "", soon()).ok());
  ASSERT_TRUE(client.send("S", "m", "", soon()).ok());
  const auto third = client.call("S", "m", "", soon());
  ASSERT_TRUE(third.ok()) << third.error().message();
  EXPECT_EQ(*third, "2");
}

TEST(Ttrpc, AReplyMayOutliveItsConnection) {
  Pair pair = make_pair_of_sockets();
  Reply held;
  {
    Server server(std::move(pair.theirs), [&held](Call, Reply reply) { held = std::move(reply); });
    Client client(std::move(pair.ours));
    EXPECT_FALSE(client.call("S", "m", "", after(milliseconds(30))).ok());
  }
  held("nobody hears this");
}

/// Plays a client that sends `bytes`; true when the server ended the connection.
bool is_thrown_out(const std::string& bytes) {
  Pair pair = make_pair_of_sockets();
  const Server server(std::move(pair.theirs), [](Call, Reply reply) { reply("fine"); });
  EXPECT_EQ(::send(pair.ours.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  ::shutdown(pair.ours.get(), SHUT_WR);
  char buffer[256];
  ssize_t got = 0, total = 0;
  while ((got = ::recv(pair.ours.get(), buffer, sizeof buffer, 0)) > 0) total += got;
  return total == 0;
}

TEST(Ttrpc, ServerEndsConnectionsThatBreakTheRules) {
  const std::string request = encode_request({"S", "m", "", {}});
  const auto frame = [&](uint32_t stream, FrameType type) { return *encode({stream, type, 0, request}); };
  EXPECT_FALSE(is_thrown_out(frame(1, FrameType::kRequest)));
  EXPECT_TRUE(is_thrown_out(frame(2, FrameType::kRequest)));
  EXPECT_TRUE(is_thrown_out(frame(1, FrameType::kResponse)));
  EXPECT_TRUE(is_thrown_out(frame(1, FrameType::kData)));
  EXPECT_TRUE(is_thrown_out(header(kMaxDataBytes + 1, 1, 1, 0)));
  EXPECT_TRUE(is_thrown_out(header(5, 1, 9, 0) + "hello"));
}

TEST(Ttrpc, MalformedRequestsGetAnError) {
  Pair pair = make_pair_of_sockets();
  const Server server(std::move(pair.theirs), [](Call, Reply reply) { reply("fine"); });
  const std::string bytes = *encode({1, FrameType::kRequest, 0, "\xff\xff\xff"});
  ASSERT_EQ(::send(pair.ours.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  FrameReader reader;
  std::optional<Frame> frame;
  while (!frame) {
    char buffer[512];
    const ssize_t got = ::recv(pair.ours.get(), buffer, sizeof buffer, 0);
    ASSERT_GT(got, 0);
    reader.append({buffer, static_cast<size_t>(got)});
    auto next = reader.next();
    ASSERT_TRUE(next.ok());
    frame = std::move(*next);
  }
  const auto answer = decode_response(frame->data);
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind(), ErrorKind::kInvalid);
  pair.ours.reset();
}

TEST(Ttrpc, ClientTellsPeersThatLieOrLeave) {
  const auto with_answer = [](const std::string& bytes) {
    Pair pair = make_pair_of_sockets();
    ::send(pair.theirs.get(), bytes.data(), bytes.size(), 0);
    pair.theirs.reset();
    Client client(std::move(pair.ours));
    const auto answer = client.call("S", "m", "", soon());
    return answer.ok() ? ErrorKind::kInternal : answer.error().kind();
  };
  EXPECT_EQ(with_answer(""), ErrorKind::kUnavailable);
  Pair pair = make_pair_of_sockets();
  const std::string other = *encode({7, FrameType::kResponse, 0, ""});
  Client client(std::move(pair.ours));
  ::send(pair.theirs.get(), other.data(), other.size(), 0);
  const auto answer = client.call("S", "m", "", soon());
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind(), ErrorKind::kCorrupt);
}

TEST(Ttrpc, RequestsAreLeftUnreadWhenAnswersAreNotTaken) {
  Pair pair = make_pair_of_sockets();
  int calls = 0;
  ServerConnection connection(std::move(pair.theirs), [&](Call, Reply reply) {
    ++calls;
    reply(std::string(1 << 20, 'z'));
  });
  std::string requests;
  constexpr int kRequests = 100;
  for (uint32_t i = 0; i < kRequests; ++i) {
    requests += *encode({2 * i + 1, FrameType::kRequest, 0, encode_request({"S", "m", "", {}})});
  }
  ASSERT_EQ(::send(pair.ours.get(), requests.data(), requests.size(), MSG_DONTWAIT),
            static_cast<ssize_t>(requests.size()));
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(connection.on_ready(true, false));
  EXPECT_LT(calls, 12);
  EXPECT_FALSE(connection.wants_read());
  EXPECT_TRUE(connection.wants_write());
  // Once they are taken, everything is answered.
  size_t got = 0;
  std::string buffer(1 << 20, '\0');
  for (int i = 0; i < 100000 && calls < kRequests; ++i) {
    const ssize_t more = ::recv(pair.ours.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (more > 0) got += static_cast<size_t>(more);
    ASSERT_TRUE(connection.on_ready(connection.wants_read(), true));
  }
  EXPECT_EQ(calls, kRequests);
  EXPECT_GT(got, size_t{kRequests - 12} << 20);
}

}  // namespace
}  // namespace hull::guest::ttrpc
