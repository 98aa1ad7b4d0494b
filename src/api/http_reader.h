#pragma once
// Requests as they come in from a peer that nobody trusts: head and body with limits (RFC 9112, parsed by Boost.Beast).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace hull::api {

/// The head of a request. Names of headers in lower case.
struct RequestHead {
  std::string method;
  std::string target;  // as it was sent
  unsigned version = 11;
  std::vector<std::pair<std::string, std::string>> headers;
  bool keep_alive = true;
  bool expects_continue = false;
  std::optional<uint64_t> content_length;
  bool chunked = false;

  /// "" when it is absent; the first one when there are several.
  std::string_view header(std::string_view name) const;
};

/// Where bytes come from: fills the buffer, 0 at the end.
using ByteSource = std::function<Result<size_t>(char* data, size_t size)>;

/// How a request is refused before anybody handles it: an HTTP status beside the message.
struct Refusal {
  int status = 400;
  std::string message;
};

/// Reads the requests of one connection, one after the other.
class HttpReader {
 public:
  static constexpr uint32_t kMostHead = 64 << 10;
  static constexpr size_t kMostHeaders = 128;

  explicit HttpReader(ByteSource source);
  ~HttpReader();
  HttpReader(const HttpReader&) = delete;
  HttpReader& operator=(const HttpReader&) = delete;

  enum class Next { kRequest, kEnd, kRefused };
  /// The next head. kEnd: the peer has closed between two requests. kRefused: refusal() says how to answer, after
  /// which the connection is of no use. Errors are those of the source.
  Result<Next> next();
  const RequestHead& head() const { return head_; }
  const Refusal& refusal() const { return refusal_; }

  /// Bytes of the body, 0 at its end. kInvalid when it is malformed, or ends too early.
  Result<size_t> read_body(char* data, size_t size);
  bool body_done() const;
  /// After a body that was read to its end: what was received beyond it belongs to whoever takes the connection over.
  std::string take_rest();
  /// Whether bytes of the next request are here already.
  bool has_rest() const { return used_ < buffer_.size(); }

 private:
  struct Parser;
  Result<bool> fill();
  void refuse(int status, std::string message);
  bool take_head();

  ByteSource source_;
  std::string buffer_;  // [used_, size): received, not parsed
  size_t used_ = 0;
  std::unique_ptr<Parser> parser_;
  RequestHead head_;
  Refusal refusal_;
};

}  // namespace hull::api
