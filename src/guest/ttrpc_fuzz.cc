// What comes over the agent's connection: frames, requests, responses, and a server that is fed the bytes in pieces.
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "guest/ttrpc.h"

using namespace hull;
using namespace hull::guest;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto call = ttrpc::decode_request(input);
  if (call.ok()) {
    // What was understood survives being said again.
    auto again = ttrpc::decode_request(ttrpc::encode_request(*call));
    if (!again.ok() || again->method != call->method || again->payload != call->payload) std::abort();
  }
  auto response = ttrpc::decode_response(input);
  auto twice = ttrpc::decode_response(ttrpc::encode_response(response));
  if (twice.ok() != response.ok()) std::abort();

  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) return 0;
  UniqueFd ours(fds[0]);
  ttrpc::ServerConnection server(UniqueFd(fds[1]), [](ttrpc::Call got, const ttrpc::Reply& reply) {
    if (got.method.size() % 3 != 0) reply(got.payload);
  });
  bool alive = true;
  for (size_t at = 0; alive && at < size;) {
    const size_t piece = std::min<size_t>(size - at, 1 + data[at] % 64);
    if (::send(ours.get(), data + at, piece, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break;
    at += piece;
    alive = server.on_ready(true, true);
    char sink[4096];
    while (::recv(ours.get(), sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
  }
  return 0;
}
