#include "api/http_reader.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::api {
namespace {

namespace http = boost::beast::http;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

constexpr size_t kReadSize = 16 << 10;

}  // namespace

std::string_view RequestHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

struct HttpReader::Parser {
  Parser() {
    http.header_limit(kMostHead);
    http.body_limit(boost::none);  // each handler says how much it takes
    http.eager(false);
  }
  http::request_parser<http::buffer_body> http;
};

HttpReader::HttpReader(ByteSource source) : source_(std::move(source)) {}
HttpReader::~HttpReader() = default;

Result<bool> HttpReader::fill() {
  if (used_ > 0) {
    buffer_.erase(0, used_);
    used_ = 0;
  }
  const size_t before = buffer_.size();
  buffer_.resize(before + kReadSize);
  auto got = source_(buffer_.data() + before, kReadSize);
  buffer_.resize(before + (got.ok() ? *got : 0));
  if (!got.ok()) return std::move(got).error();
  return *got > 0;
}

void HttpReader::refuse(int status, std::string message) { refusal_ = {status, std::move(message)}; }

bool HttpReader::take_head() {
  const auto& message = parser_->http.get();
  head_ = {};
  head_.method = std::string(message.method_string());
  head_.target = std::string(message.target());
  head_.version = message.version();
  head_.keep_alive = message.keep_alive();
  head_.chunked = parser_->http.chunked();
  size_t hosts = 0, lengths = 0, codings = 0;
  for (const auto& field : message) {
    if (head_.headers.size() == kMostHeaders) {
      refuse(431, "too many header fields");
      return false;
    }
    head_.headers.emplace_back(lower(std::string_view(field.name_string())), std::string(field.value()));
    const std::string_view name = head_.headers.back().first;
    hosts += name == "host" ? 1 : 0;
    lengths += name == "content-length" ? 1 : 0;
    codings += name == "transfer-encoding" ? 1 : 0;
  }
  if (head_.version != 11 && head_.version != 10) {
    refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    return false;
  }
  // RFC 9112, 3.2 and 6.1: what two readers could understand differently is refused.
  if (hosts > 1 || (hosts == 0 && head_.version == 11)) {
    refuse(400, hosts == 0 ? "missing required Host header" : "too many Host headers");
    return false;
  }
  if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0)) {
    refuse(400, "the length of the body is given more than once");
    return false;
  }
  if (codings == 1 && !head_.chunked) {
    refuse(501, "unsupported transfer encoding");
    return false;
  }
  if (const auto length = parser_->http.content_length()) head_.content_length = *length;
  const std::string expect = lower(head_.header("expect"));
  if (!expect.empty() && expect != "100-continue") {
    refuse(417, "unknown expectation");
    return false;
  }
  head_.expects_continue = !expect.empty() && head_.version == 11;
  return true;
}

Result<HttpReader::Next> HttpReader::next() {
  parser_ = std::make_unique<Parser>();
  bool begun = false;
  while (!parser_->http.is_header_done()) {
    if (used_ == buffer_.size() || begun) {
      TRY_ASSIGN(const bool more, fill());
      if (!more) {
        if (buffer_.size() == used_) return Next::kEnd;
        refuse(400, "the request ends in the middle of its head");
        return Next::kRefused;
      }
    }
    begun = true;
    boost::beast::error_code error;
    const size_t taken =
        parser_->http.put(boost::asio::const_buffer(buffer_.data() + used_, buffer_.size() - used_), error);
    used_ += taken;
    if (error == http::error::need_more) {
      if (buffer_.size() - used_ > kMostHead) {
        refuse(431, "the head of the request is too large");
        return Next::kRefused;
      }
      continue;
    }
    if (error) {
      const bool large = error == http::error::header_limit || error == http::error::buffer_overflow;
      const bool version = error == http::error::bad_version;
      refuse(large ? 431 : version ? 505 : 400, fmt::format("malformed HTTP request: {}", error.message()));
      return Next::kRefused;
    }
  }
  return take_head() ? Next::kRequest : Next::kRefused;
}

bool HttpReader::body_done() const { return parser_ == nullptr || parser_->http.is_done(); }

Result<size_t> HttpReader::read_body(char* data, size_t size) {
  auto& parser = parser_->http;
  bool begun = false;
  while (!parser.is_done()) {
    if (used_ == buffer_.size() || begun) {
      TRY_ASSIGN(const bool more, fill());
      if (!more) return errorf(ErrorKind::kInvalid, "the connection was closed in the middle of the body");
    }
    begun = true;
    auto& body = parser.get().body();
    body.data = data;
    body.size = size;
    body.more = true;
    boost::beast::error_code error;
    used_ += parser.put(boost::asio::const_buffer(buffer_.data() + used_, buffer_.size() - used_), error);
    const size_t got = size - parser.get().body().size;
    if (error && error != http::error::need_more && error != http::error::need_buffer) {
      return errorf(ErrorKind::kInvalid, "malformed body: {}", error.message());
    }
    if (got > 0) return got;
    if (buffer_.size() - used_ > kMostHead)
      return errorf(ErrorKind::kInvalid, "malformed body: a chunk's head is too long");
    if (used_ < buffer_.size() && !error) begun = false;
  }
  return size_t{0};
}

std::string HttpReader::take_rest() {
  std::string rest = buffer_.substr(used_);
  buffer_.clear();
  used_ = 0;
  return rest;
}

}  // namespace hull::api
