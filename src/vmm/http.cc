#include "vmm/http.h"

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::vmm {

namespace {
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool same(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
         });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// "PUT /pause HTTP/1.1": false when it is something else.
bool parse_request_line(std::string_view line, HttpRequest* request) {
  const size_t first = line.find(' ');
  const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return false;
  const std::string_view path = line.substr(first + 1, second - first - 1);
  const std::string_view version = line.substr(second + 1);
  if (!is_token(line.substr(0, first)) || path.empty() || path.front() != '/') return false;
  if (!std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c < 0x7f; })) return false;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return false;
  request->method = line.substr(0, first);
  request->path = path;
  request->keep_alive = version == "HTTP/1.1";
  return true;
}

struct Head {
  size_t body_bytes = 0;
  bool has_length = false;
};

/// One header line; a status to refuse with, or 0.
int parse_header(std::string_view line, HttpRequest* request, Head* head) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return 400;
  const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
  if (same(name, "transfer-encoding")) return 501;
  if (same(name, "connection") && same(value, "close")) request->keep_alive = false;
  if (same(name, "content-length")) {
    // Two lengths, or one that is no plain number, is how requests are smuggled.
    const Result<int64_t> length = parse_int(value, 0, INT64_MAX);
    if (head->has_length || !length.ok()) return 400;
    if (static_cast<uint64_t>(*length) > kHttpBodyBytes) return 413;
    head->has_length = true;
    head->body_bytes = static_cast<size_t>(*length);
  }
  return 0;
}

HttpParse bad(int status) {
  HttpParse parse;
  parse.state = HttpParse::State::kBad;
  parse.status = status;
  return parse;
}

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    default:
      return "Error";
  }
}
}  // namespace

HttpParse parse_http(std::string_view bytes) {
  const size_t end = bytes.substr(0, kHttpHeadBytes).find("\r\n\r\n");
  if (end == std::string_view::npos) return bytes.size() >= kHttpHeadBytes ? bad(431) : HttpParse();
  HttpParse parse;
  Head head;
  std::string_view rest = bytes.substr(0, end + 2);
  bool first = true;
  while (!rest.empty()) {
    const size_t stop = rest.find("\r\n");
    const std::string_view line = rest.substr(0, stop);
    rest.remove_prefix(stop + 2);
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) return bad(400);
    if (first) {
      if (!parse_request_line(line, &parse.request)) return bad(400);
    } else if (const int status = parse_header(line, &parse.request, &head); status != 0) {
      return bad(status);
    }
    first = false;
  }
  const size_t body = end + 4;
  if (bytes.size() - body < head.body_bytes) return HttpParse();
  parse.request.body = bytes.substr(body, head.body_bytes);
  parse.used = body + head.body_bytes;
  parse.state = HttpParse::State::kDone;
  return parse;
}

std::string http_answer(int status, std::string_view json, bool keep_alive) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason(status));
  if (!keep_alive) out += "Connection: close\r\n";
  if (status != 204) out += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", json.size());
  out += "\r\n";
  out += json;
  return out;
}

std::string http_stream_head() {
  return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n\r\n";
}

}  // namespace hull::vmm
