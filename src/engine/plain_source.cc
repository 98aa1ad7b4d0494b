#include "engine/plain_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "base/error_format.h"

namespace hull::engine {
namespace {

constexpr size_t kPiece = 64 << 10;

bool is_compressed(std::string_view head) {
  using namespace std::string_view_literals;
  constexpr std::array kMagic = {"\x1f\x8b\x08"sv, "BZh"sv,
                                 "\xfd"
                                 "7zXZ\0"sv,
                                 "\x28\xb5\x2f\xfd"sv};
  return std::any_of(kMagic.begin(), kMagic.end(), [&](std::string_view magic) { return head.starts_with(magic); });
}

Result<std::array<UniqueFd, 2>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make a pipe");
  return std::array<UniqueFd, 2>{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

PlainSource::~PlainSource() {
  if (!child_.pidfd) return;
  ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGKILL, nullptr, 0);
  ignore_result(wait_for(child_));
}

Result<void> PlainSource::begin() {
  begun_ = true;
  // Enough to tell by; a tar's first header is longer than this.
  while (pending_.size() < 6 && !drained_) {
    char buffer[512];
    TRY_ASSIGN(const size_t got, source_(buffer, sizeof buffer));
    pending_.append(buffer, got);
    drained_ = got == 0;
  }
  compressed_ = is_compressed(pending_);
  if (compressed_) TRY(start_program());
  return {};
}

Result<void> PlainSource::start_program() {
  int ends[2];  // a socket, since writing to a pipe whose reader has ended is a signal
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return errno_error("make a pair of sockets");
  to_.reset(ends[0]);
  const UniqueFd input(ends[1]);
  TRY_ASSIGN(auto output, make_pipe());
  TRY_ASSIGN(auto errors, make_pipe());
  SpawnRequest request;
  request.argv = {program_, "decompress"};
  request.fds = {{0, input.get()}, {1, output[1].get()}, {2, errors[1].get()}};
  TRY_ASSIGN(child_, spawn(request));
  from_ = std::move(output[0]);
  said_ = std::move(errors[0]);
  return {};
}

/// Passes on what was read, and reads more when all of it is passed on.
Result<void> PlainSource::feed() {
  if (passed_ == pending_.size()) {
    passed_ = 0;
    pending_.resize(kPiece);
    const auto got = drained_ ? Result<size_t>(size_t{0}) : source_(pending_.data(), pending_.size());
    pending_.resize(got.ok() ? *got : 0);
    if (!got.ok()) return got.error();
    drained_ = *got == 0;
  }
  if (drained_ && pending_.empty()) {
    to_.reset();
    return {};
  }
  const ssize_t put =
      ::send(to_.get(), pending_.data() + passed_, pending_.size() - passed_, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (put > 0) passed_ += static_cast<size_t>(put);
  // It has ended: with an error, which it tells, or after the end of what it understands.
  if (put < 0 && errno == EPIPE) to_.reset();
  if (put < 0 && errno != EAGAIN && errno != EINTR && errno != EPIPE) return errno_error("pass on an archive");
  return {};
}

Result<size_t> PlainSource::end() {
  std::string text(512, '\0');
  const ssize_t got = ::read(said_.get(), text.data(), text.size());
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (const size_t at = text.rfind("decompress: "); at != std::string::npos) text.erase(0, at + 12);
  TRY_ASSIGN(const int code, wait_for(child_));
  child_.pidfd.reset();
  from_.reset();
  if (code != 0) {
    return errorf(ErrorKind::kInvalid, "the archive can't be decompressed: {}",
                  text.empty() ? fmt::format("hull-kernel ended with {}", code) : text);
  }
  return size_t{0};
}

Result<size_t> PlainSource::read(char* buffer, size_t size) {
  if (!begun_) TRY(begin());
  if (!compressed_) {
    if (passed_ == pending_.size()) return drained_ ? Result<size_t>(size_t{0}) : source_(buffer, size);
    const size_t count = std::min(size, pending_.size() - passed_);
    std::memcpy(buffer, pending_.data() + passed_, count);
    passed_ += count;
    return count;
  }
  while (from_) {
    std::array<pollfd, 2> waits = {pollfd{from_.get(), POLLIN, 0}, pollfd{to_ ? to_.get() : -1, POLLOUT, 0}};
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return errno_error("wait for hull-kernel");
    }
    if (waits[0].revents != 0) {
      const ssize_t got = ::read(from_.get(), buffer, size);
      if (got > 0) return static_cast<size_t>(got);
      if (got == 0) return end();
      if (errno != EINTR) return errno_error("read a decompressed archive");
    } else if (waits[1].revents != 0) {
      TRY(feed());
    }
  }
  return size_t{0};
}

}  // namespace hull::engine
