#pragma once
// As much of HTTP/1.1 (RFC 9112) as the control socket needs: requests with a small body of known length, answers with
// a JSON document. Everything is bounded; what is not understood is refused, never guessed.

#include <cstddef>
#include <string>
#include <string_view>

namespace hull::vmm {

struct HttpRequest {
  std::string method, path, body;
  bool keep_alive = true;
};

struct HttpParse {
  enum class State { kMore, kDone, kBad };
  State state = State::kMore;
  size_t used = 0;  ///< bytes of the input that the request takes (kDone)
  int status = 0;   ///< of the answer to give before closing (kBad)
  HttpRequest request;
};

inline constexpr size_t kHttpHeadBytes = 8 << 10;
inline constexpr size_t kHttpBodyBytes = 64 << 10;

/// Looks at all that has come of a connection so far. kMore is answered at most until the bounds are reached.
HttpParse parse_http(std::string_view bytes);

/// A whole answer; `json` may be empty (then 204 is the status to give).
std::string http_answer(int status, std::string_view json, bool keep_alive);
/// The head of an answer whose lines come as they happen, until the connection ends.
std::string http_stream_head();

}  // namespace hull::vmm
