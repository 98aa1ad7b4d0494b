#include "api/stream.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <climits>

#include "base/error_format.h"

namespace hull::api {
namespace {

/// False when the time is up.
Result<bool> wait_for(int fd, short events, int timeout_ms) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(std::max(timeout_ms, 0));
  pollfd watched = {fd, events, 0};
  for (int left = timeout_ms;;) {
    const int ready = ::poll(&watched, 1, left);
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return errno_error("wait for the client");
    if (timeout_ms < 0) continue;
    left = static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count());
    if (left <= 0) return false;
  }
}

}  // namespace

Stream::Stream(UniqueFd socket) : socket_(std::move(socket)), read_events_(POLLIN), write_events_(POLLOUT) {
  ::fcntl(socket_.get(), F_SETFL, ::fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

Stream::~Stream() {
  if (ssl_ != nullptr) ::SSL_free(ssl_);
}

Result<void> Stream::start_tls(SSL_CTX* context, int timeout_ms) {
  ssl_ = ::SSL_new(context);
  if (ssl_ == nullptr || ::SSL_set_fd(ssl_, fd()) != 1) return errorf(ErrorKind::kInternal, "make a TLS session");
  for (;;) {
    ::ERR_clear_error();
    const int result = ::SSL_accept(ssl_);
    if (result == 1) return {};
    const int error = ::SSL_get_error(ssl_, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
      char text[256] = "the client went away";
      if (const unsigned long code = ::ERR_get_error(); code != 0) ::ERR_error_string_n(code, text, sizeof text);
      return errorf(ErrorKind::kPermission, "TLS handshake: {}", text);
    }
    TRY_ASSIGN(const bool ready, wait_for(fd(), error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, timeout_ms));
    if (!ready) return errorf(ErrorKind::kTimeout, "TLS handshake: the client says nothing");
  }
}

Result<Moved> Stream::outcome(int result, bool reading, std::string_view what) {
  if (result > 0) return Moved{Moved::State::kDone, static_cast<size_t>(result)};
  switch (::SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      (reading ? read_events_ : write_events_) = POLLIN;
      return Moved{};
    case SSL_ERROR_WANT_WRITE:
      (reading ? read_events_ : write_events_) = POLLOUT;
      return Moved{};
    case SSL_ERROR_ZERO_RETURN:
      return Moved{Moved::State::kEnd, 0};
    default:
      return errorf(ErrorKind::kIo, "{}: the TLS connection is broken", what);
  }
}

Result<Moved> Stream::read_some(char* data, size_t size) {
  read_events_ = POLLIN;
  if (ssl_ != nullptr) {
    ::ERR_clear_error();
    return outcome(::SSL_read(ssl_, data, static_cast<int>(std::min<size_t>(size, INT_MAX))), true, "read");
  }
  const ssize_t got = ::recv(fd(), data, size, 0);
  if (got > 0) return Moved{Moved::State::kDone, static_cast<size_t>(got)};
  if (got == 0) return Moved{Moved::State::kEnd, 0};
  if (errno == EAGAIN || errno == EINTR) return Moved{};
  return errno_error("read from the client");
}

Result<Moved> Stream::write_some(std::string_view data) {
  write_events_ = POLLOUT;
  if (ssl_ != nullptr) {
    ::ERR_clear_error();
    return outcome(::SSL_write(ssl_, data.data(), static_cast<int>(std::min<size_t>(data.size(), INT_MAX))), false,
                   "write");
  }
  const ssize_t put = ::send(fd(), data.data(), data.size(), MSG_NOSIGNAL);
  if (put >= 0) return Moved{Moved::State::kDone, static_cast<size_t>(put)};
  if (errno == EAGAIN || errno == EINTR) return Moved{};
  return errno_error("write to the client");
}

bool Stream::buffered() const {
  // The peer's end was taken off the socket with what came before it, and is told by the next read.
  return ssl_ != nullptr && (::SSL_pending(ssl_) > 0 || (::SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0);
}

Result<size_t> Stream::read(char* data, size_t size, int timeout_ms) {
  for (;;) {
    TRY_ASSIGN(const Moved moved, read_some(data, size));
    if (moved.state == Moved::State::kDone) return moved.count;
    if (moved.state == Moved::State::kEnd) return size_t{0};
    TRY_ASSIGN(const bool ready, wait_for(fd(), read_events_, timeout_ms));
    if (!ready) return errorf(ErrorKind::kTimeout, "the client sends nothing");
  }
}

Result<void> Stream::write(std::string_view data, int timeout_ms) {
  while (!data.empty()) {
    TRY_ASSIGN(const Moved moved, write_some(data));
    if (moved.state == Moved::State::kEnd) return errorf(ErrorKind::kIo, "write: the client has closed");
    if (moved.state == Moved::State::kDone) {
      data.remove_prefix(moved.count);
      continue;
    }
    TRY_ASSIGN(const bool ready, wait_for(fd(), write_events_, timeout_ms));
    if (!ready) return errorf(ErrorKind::kTimeout, "the client takes nothing");
  }
  return {};
}

void Stream::shutdown_write() {
  if (ssl_ != nullptr) {
    ::SSL_shutdown(ssl_);
  } else {
    ::shutdown(fd(), SHUT_WR);
  }
}

bool Stream::gone() const {
  char byte = 0;
  const ssize_t got = ::recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

}  // namespace hull::api
