#include "vm/relay.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"

namespace hull::vm {

Pump::Pump(int from, int to, bool to_socket)
    : from_(from),
      to_(to),
      to_socket_(to_socket),
      buffer_(std::make_unique<char[]>(kCapacity)),
      done_(false),
      last_moved_(std::chrono::steady_clock::now()) {
  if (to_socket_) return;
  struct stat info{};
  if (::fstat(to, &info) != 0) return;
  if (S_ISSOCK(info.st_mode)) {
    to_socket_ = true;
  } else if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    // The description is shared with others, who may not expect O_NONBLOCK on it; a new one is ours alone.
    own_to_.reset(::open(fmt::format("/proc/self/fd/{}", to).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    may_block_ = !own_to_;
  }
}

ssize_t Pump::put(const char* data, size_t size) {
  if (to_socket_) return ::send(to_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (own_to_) return ::write(own_to_.get(), data, size);
  // A pipe that poll calls writable takes this much at once.
  return ::write(to_, data, may_block_ ? std::min<size_t>(size, PIPE_BUF) : size);
}

void Pump::flush() {
  while (begin_ < end_) {
    const ssize_t count = put(buffer_.get() + begin_, end_ - begin_);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) done_ = true;  // nobody reads any more
      return;
    }
    begin_ += static_cast<size_t>(count);
    last_moved_ = std::chrono::steady_clock::now();
    if (may_block_) break;
  }
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (ended_) done_ = true;
  }
}

void Pump::on_readable(short) {
  if (done_ || ended_ || end_ == kCapacity) return;
  const ssize_t count = ::read(from_, buffer_.get() + end_, kCapacity - end_);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {  // a terminal whose other side is closed gives EIO
    ended_ = true;
    if (begin_ == end_) done_ = true;
    return;
  }
  end_ += static_cast<size_t>(count);
  last_moved_ = std::chrono::steady_clock::now();
  if (!may_block_) flush();
}

void Pump::on_writable(short revents) {
  if (done_) return;
  if ((revents & POLLOUT) == 0) {
    done_ = true;
    return;
  }
  flush();
}

void Pump::collect(PollSet& set) {
  if (done_) return;
  const bool pending = begin_ < end_;
  // While bytes wait for the reader nothing more is read: that is what holds the writer back.
  if (pending) {
    set.add(own_to_ ? own_to_.get() : to_, POLLOUT, [this](short revents) { on_writable(revents); });
  } else if (!ended_) {
    set.add(from_, POLLIN, [this](short revents) { on_readable(revents); });
  }
}

guest::proto::Streams Relay::describe(const Ends& ends, const std::string& token) {
  guest::proto::Streams streams;
  streams.set_stdin(ends.in >= 0);
  streams.set_stdout(ends.out >= 0);
  streams.set_stderr(ends.err >= 0 && !ends.terminal);
  streams.set_terminal(ends.terminal);
  streams.set_token(token);
  return streams;
}

Result<Relay> Relay::open(const std::string& vsock, const std::string& token, const Ends& ends,
                          guest::Deadline deadline) {
  Relay relay;
  if (ends.out >= 0) {
    TRY_ASSIGN(relay.out_socket_, guest::open_stream(vsock, token, 1, deadline));
    ::fcntl(relay.out_socket_.get(), F_SETFL, O_NONBLOCK);
    relay.out_ = Pump(relay.out_socket_.get(), ends.out, false);
  }
  if (ends.err >= 0 && !ends.terminal) {
    TRY_ASSIGN(relay.err_socket_, guest::open_stream(vsock, token, 2, deadline));
    ::fcntl(relay.err_socket_.get(), F_SETFL, O_NONBLOCK);
    relay.err_ = Pump(relay.err_socket_.get(), ends.err, false);
  }
  if (ends.in >= 0) {
    TRY_ASSIGN(relay.in_socket_, guest::open_stream(vsock, token, 0, deadline));
    ::fcntl(relay.in_socket_.get(), F_SETFL, O_NONBLOCK);
    relay.in_ = Pump(ends.in, relay.in_socket_.get(), true);
  }
  return relay;
}

void Relay::collect(PollSet& set) {
  // A stream that nobody on the host takes any more is closed, so that its writer learns of it.
  if (out_.done()) out_socket_.reset();
  if (err_.done()) err_socket_.reset();
  if (in_.done() && !in_closed_) {
    in_closed_ = true;
    if (in_socket_) ::shutdown(in_socket_.get(), SHUT_WR);
  }
  in_.collect(set);
  out_.collect(set);
  err_.collect(set);
}

void Relay::drain(std::chrono::milliseconds idle, std::chrono::milliseconds blocked) {
  in_.close();
  auto since = std::chrono::steady_clock::now();
  PollSet set;
  while (!output_done()) {
    since = std::max({since, out_.last_moved(), err_.last_moved()});
    const auto patience = out_.pending() || err_.pending() ? blocked : idle;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(since + patience - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    set.clear();
    collect(set);
    if (!set.wait(static_cast<int>(left.count())).ok()) break;
  }
  out_.close();
  err_.close();
  set.clear();
  collect(set);
}

}  // namespace hull::vm
