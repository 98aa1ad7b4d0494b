#include "vm/outcome.h"

#include <sys/socket.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::vm {
namespace {

constexpr size_t kLongest = 16384;

}  // namespace

std::string encode_outcome(const Result<void>& outcome) {
  if (outcome.ok()) return "ok";
  return fmt::format("{} {:.8000}", static_cast<int>(outcome.error().kind()), outcome.error().message());
}

Result<void> decode_outcome(std::string_view text) {
  if (text == "ok") return {};
  const size_t space = text.find(' ');
  const auto kind = parse_int(text.substr(0, space), 0, static_cast<int>(ErrorKind::kInternal));
  if (space == std::string_view::npos || !kind.ok()) {
    return errorf(ErrorKind::kCorrupt, "the virtual machine's supervisor answered nonsense");
  }
  return Error(static_cast<ErrorKind>(*kind), std::string(text.substr(space + 1)));
}

void send_outcome(int socket, const Result<void>& outcome) {
  const std::string text = encode_outcome(outcome);
  [[maybe_unused]] const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

Result<void> receive_outcome(int socket) {
  std::string text(kLongest, '\0');
  ssize_t got = -1;
  do {
    got = ::recv(socket, text.data(), text.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return errorf(ErrorKind::kUnavailable, "the virtual machine's supervisor has ended");
  text.resize(static_cast<size_t>(got));
  return decode_outcome(text);
}

}  // namespace hull::vm
