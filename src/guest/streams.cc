#include "guest/streams.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/error_format.h"

namespace hull::guest {
namespace {

constexpr size_t kLongestName = 80;
constexpr auto kNamePatience = std::chrono::seconds(10);
constexpr uint32_t kNothing = 0;
constexpr uint32_t kReadable = EPOLLIN, kWritable = EPOLLOUT, kPeerEnded = EPOLLRDHUP, kBroken = EPOLLERR;
constexpr int kRounds = 16;  // buffers of one stream before others have their turn

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

/// Whether the peer still takes bytes. Half a connection that ends looks the same to poll as all of it.
bool peer_listens(int connection) {
  return ::send(connection, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) == 0 || would_block(errno);
}

}  // namespace

StreamHub::~StreamHub() {
  for (auto& [key, stream] : streams_) {
    loop_.forget(stream->local.get());
    if (stream->connection) loop_.forget(stream->connection.get());
  }
  for (auto& [fd, nameless] : nameless_) {
    loop_.forget(fd);
    loop_.cancel(nameless.timer);
  }
}

bool StreamHub::valid_token(std::string_view token) {
  return token.size() >= 8 && token.size() <= 64 && token.find_first_not_of("0123456789abcdef") == token.npos;
}

bool StreamHub::has(std::string_view token) const {
  const auto first = streams_.lower_bound({std::string(token), 0});
  return first != streams_.end() && first->first.first == token;
}

Result<void> StreamHub::add(const std::string& token, int number, UniqueFd local) {
  const Key key{token, number};
  if (streams_.contains(key)) return errorf(ErrorKind::kExists, "stream {} of this token exists", number);
  if (streams_.size() >= kMaxStreams) return errorf(ErrorKind::kNoSpace, "too many streams");
  set_nonblocking(local.get());
  auto stream = std::make_unique<Stream>();
  stream->token = token;
  stream->number = number;
  TRY(loop_.watch(local.get(), 0, [this, key](uint32_t events) { on_local(key, events); }));
  stream->local = std::move(local);
  streams_[key] = std::move(stream);
  return {};
}

void StreamHub::close_input_after(std::string_view token, uint64_t bytes) {
  const Key key{std::string(token), 0};
  const auto found = streams_.find(key);
  if (found == streams_.end()) return;
  found->second->limit = bytes;
  if (found->second->total >= bytes) {
    end(key);
  } else {
    move(key);
  }
}

void StreamHub::drop_unopened(const std::string& token) {
  for (int number = 0; number < 3; ++number) {
    const auto found = streams_.find({token, number});
    if (found != streams_.end() && !found->second->connection) end({token, number});
  }
}

void StreamHub::drop(const std::string& token) {
  for (int number = 0; number < 3; ++number) end({token, number});
}

void StreamHub::end(const Key& key) {
  const auto found = streams_.find(key);
  if (found == streams_.end()) return;
  Stream& stream = *found->second;
  loop_.forget(stream.local.get());
  if (stream.connection) loop_.forget(stream.connection.get());
  streams_.erase(found);
}

void StreamHub::accept(UniqueFd connection) {
  if (nameless_.size() >= kMaxNameless) return;
  const int fd = connection.get();
  set_nonblocking(fd);
  Nameless nameless;
  nameless.connection = std::move(connection);
  nameless.timer = loop_.at(EventLoop::Clock::now() + kNamePatience, [this, fd] { close_nameless(fd); });
  if (!loop_.watch(fd, EPOLLIN, [this, fd](uint32_t) { read_name(fd); }).ok()) {
    loop_.cancel(nameless.timer);
    return;
  }
  nameless_[fd] = std::move(nameless);
}

void StreamHub::close_nameless(int fd) {
  const auto found = nameless_.find(fd);
  if (found == nameless_.end()) return;
  loop_.forget(fd);
  loop_.cancel(found->second.timer);
  nameless_.erase(found);
}

void StreamHub::read_name(int fd) {
  const auto found = nameless_.find(fd);
  if (found == nameless_.end()) return;
  Nameless& nameless = found->second;
  const ssize_t got = ::recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
  if (got < 0 && would_block(errno)) return;
  if (got <= 0) return close_nameless(fd);
  nameless.line.append(buffer_.data(), static_cast<size_t>(got));
  const size_t newline = nameless.line.find('\n');
  if (newline == std::string::npos && nameless.line.size() <= kLongestName) return;
  const std::string all = std::move(nameless.line);
  UniqueFd connection = std::move(nameless.connection);
  close_nameless(fd);
  const auto refuse = [&](std::string_view why) {
    ::send(connection.get(), why.data(), why.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  };
  if (newline == std::string::npos || newline > kLongestName || newline < 3 || all[newline - 2] != ' ') {
    return refuse("expected: <token> <0|1|2>\n");
  }
  const int number = all[newline - 1] - '0';
  const auto stream = streams_.find({all.substr(0, newline - 2), number});
  if (stream == streams_.end()) return refuse("no such stream\n");
  if (stream->second->connection) return refuse("this stream is open already\n");
  connect(*stream->second, std::move(connection), std::string_view(all).substr(newline + 1));
}

void StreamHub::connect(Stream& stream, UniqueFd connection, std::string_view first) {
  const Key key{stream.token, stream.number};
  // A fresh connection has room for three bytes.
  if (::send(connection.get(), "OK\n", 3, MSG_DONTWAIT | MSG_NOSIGNAL) != 3) return;
  auto watched = loop_.watch(connection.get(), 0, [this, key](uint32_t events) { on_connection(key, events); });
  if (!watched.ok()) return;
  stream.connection = std::move(connection);
  if (stream.number == 0) stream.pending = first;
  move(key);
}

void StreamHub::on_local(const Key& key, uint32_t events) {
  // Nobody reads standard input any more: the host learns it by the end of the connection.
  if (key.second == 0 && (events & (EPOLLERR | EPOLLHUP)) != 0) return end(key);
  move(key);
}

void StreamHub::on_connection(const Key& key, uint32_t events) {
  const auto found = streams_.find(key);
  if (found == streams_.end()) return;
  Stream& stream = *found->second;
  if (stream.number != 0) {
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) return end(key);
    if ((events & EPOLLRDHUP) != 0) {
      if (!peer_listens(stream.connection.get())) return end(key);
      stream.half_closed = true;
    }
  }
  move(key);
}

void StreamHub::move(const Key& key) {
  const auto found = streams_.find(key);
  if (found == streams_.end()) return;
  if (pump(*found->second)) {
    set_interest(*found->second);
  } else {
    end(key);
  }
}

ssize_t StreamHub::take(Stream& stream) {
  if (stream.number == 0) return ::recv(stream.connection.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
  return ::read(stream.local.get(), buffer_.data(), buffer_.size());
}

/// False: what is to be written to has gone.
bool StreamHub::flush(Stream& stream) {
  while (stream.written < stream.pending.size()) {
    const char* data = stream.pending.data() + stream.written;
    size_t size = stream.pending.size() - stream.written;
    ssize_t done = 0;
    if (stream.number == 0) {
      size = static_cast<size_t>(std::min<uint64_t>(size, stream.limit - stream.total));
      if (size == 0) return false;  // the end that was asked for
      done = ::write(stream.local.get(), data, size);
    } else {
      done = ::send(stream.connection.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (done < 0) return would_block(errno);
    stream.written += static_cast<size_t>(done);
    if (stream.number == 0) stream.total += static_cast<uint64_t>(done);
  }
  std::string().swap(stream.pending);
  stream.written = 0;
  return stream.number != 0 || stream.total < stream.limit;
}

bool StreamHub::pump(Stream& stream) {
  if (!stream.connection) return true;
  for (int round = 0; round < kRounds; ++round) {
    if (!flush(stream)) return false;
    if (!stream.pending.empty()) return true;
    if (stream.source_ended) return false;
    const ssize_t got = take(stream);
    if (got > 0) {
      stream.pending.assign(buffer_.data(), static_cast<size_t>(got));
      continue;
    }
    if (got < 0 && would_block(errno)) return true;
    stream.source_ended = true;  // a terminal that nobody has open any more gives EIO
  }
  return true;
}

void StreamHub::set_interest(Stream& stream) {
  if (!stream.connection) return;
  const bool waits = !stream.pending.empty();
  uint32_t local = 0, connection = 0;
  if (stream.number == 0) {
    local = waits ? kWritable : kBroken;
    connection = waits ? kNothing : kReadable;
  } else {
    local = waits ? kNothing : kReadable;
    connection = (waits ? kWritable : kNothing) | (stream.half_closed ? kNothing : kPeerEnded);
  }
  loop_.change(stream.local.get(), local);
  loop_.change(stream.connection.get(), connection);
}

}  // namespace hull::guest
