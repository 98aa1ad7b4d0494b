#include "store/registry/http_answers.h"

#include <curl/curl.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error_format.h"
#include "base/json_nesting.h"
#include "base/units.h"

namespace hull::store {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxHeader = 16 << 10;
constexpr size_t kMaxTokenAnswer = 1 << 20;
constexpr size_t kMaxToken = 64 << 10;
constexpr size_t kMaxTags = 100000;
constexpr int kMaxDepth = 32;

char lower(char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); }
std::string lower(std::string_view text) {
  std::string out;
  for (const char c : text) out += lower(c);
  return out;
}
bool is_token_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

/// A cursor over a header value.
struct Scanner {
  std::string_view rest;
  void spaces() {
    while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
  }
  bool take(char c) {
    if (rest.empty() || rest.front() != c) return false;
    rest.remove_prefix(1);
    return true;
  }
  std::string_view token() {
    size_t n = 0;
    while (n < rest.size() && is_token_char(rest[n])) ++n;
    const std::string_view out = rest.substr(0, n);
    rest.remove_prefix(n);
    return out;
  }
  std::optional<std::string> quoted() {
    if (!take('"')) return std::nullopt;
    std::string out;
    while (!rest.empty()) {
      const char c = rest.front();
      rest.remove_prefix(1);
      if (c == '"') return out;
      if (c == '\\' && !rest.empty()) {
        out += rest.front();
        rest.remove_prefix(1);
      } else {
        out += c;
      }
    }
    return std::nullopt;
  }
};

bool bounded_depth(std::string_view text) { return json_nests_within(text, kMaxDepth); }

std::string string_member(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

/// A token goes into a header line of ours: it must not end that line.
bool fit_for_header(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::optional<uint64_t> number_of(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  uint64_t out = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    out = out * 10 + static_cast<uint64_t>(c - '0');
  }
  return out;
}

}  // namespace

std::string printable_line(std::string_view text, size_t limit) {
  std::string out;
  for (size_t i = 0; i < text.size() && out.size() < limit; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n' || c == '\r' || c == '\t') {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else if (c < 0x20 || c >= 0x7f) {
      out += '?';
    } else {
      out += static_cast<char>(c);
    }
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

std::vector<AuthChallenge> parse_www_authenticate(std::string_view header) {
  std::vector<AuthChallenge> out;
  Scanner scan{header.substr(0, kMaxHeader)};
  while (!scan.rest.empty() && out.size() < 16) {
    scan.spaces();
    while (scan.take(',')) scan.spaces();
    const std::string_view scheme = scan.token();
    if (scheme.empty()) break;
    AuthChallenge challenge;
    challenge.scheme = lower(scheme);
    scan.spaces();
    // name=value pairs up to the next scheme: a token that no '=' follows.
    while (challenge.parameters.size() < 32) {
      const Scanner before = scan;
      scan.spaces();
      while (scan.take(',')) scan.spaces();
      const std::string_view name = scan.token();
      scan.spaces();
      if (name.empty() || !scan.take('=')) {
        scan = before;
        break;
      }
      scan.spaces();
      if (auto text = scan.quoted()) {
        challenge.parameters[lower(name)] = *std::move(text);
      } else if (const std::string_view bare = scan.token(); !bare.empty()) {
        challenge.parameters[lower(name)] = bare;
      } else {
        break;
      }
      scan.spaces();
    }
    out.push_back(std::move(challenge));
    scan.spaces();
    if (!scan.rest.empty() && scan.rest.front() != ',') break;
  }
  return out;
}

std::optional<ContentRange> parse_content_range(std::string_view header) {
  if (!header.starts_with("bytes ")) return std::nullopt;
  header.remove_prefix(6);
  const size_t dash = header.find('-');
  const size_t slash = header.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || dash > slash) return std::nullopt;
  const auto first = number_of(header.substr(0, dash));
  const auto last = number_of(header.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *last < *first) return std::nullopt;
  ContentRange out{*first, *last, std::nullopt};
  const std::string_view total = header.substr(slash + 1);
  if (total != "*") {
    out.total = number_of(total);
    if (!out.total || *out.total <= *last) return std::nullopt;
  }
  return out;
}

std::optional<std::chrono::seconds> parse_retry_after(std::string_view header,
                                                      std::chrono::system_clock::time_point now) {
  constexpr int64_t kDay = 24 * 3600;
  if (const auto seconds = number_of(header)) {
    return std::chrono::seconds(std::min<int64_t>(static_cast<int64_t>(std::min<uint64_t>(*seconds, kDay)), kDay));
  }
  if (header.empty() || header.size() > 64) return std::nullopt;
  const time_t when = curl_getdate(std::string(header).c_str(), nullptr);
  if (when < 0) return std::nullopt;
  const int64_t wait = static_cast<int64_t>(when) - static_cast<int64_t>(std::chrono::system_clock::to_time_t(now));
  return std::chrono::seconds(std::clamp<int64_t>(wait, 0, kDay));
}

std::string parse_link_next(std::string_view header) {
  Scanner scan{header.substr(0, kMaxHeader)};
  while (!scan.rest.empty()) {
    scan.spaces();
    while (scan.take(',')) scan.spaces();
    if (!scan.take('<')) return "";
    const size_t end = scan.rest.find('>');
    if (end == std::string_view::npos) return "";
    const std::string target(scan.rest.substr(0, end));
    scan.rest.remove_prefix(end + 1);
    bool next = false;
    scan.spaces();
    while (scan.take(';')) {
      scan.spaces();
      const std::string name = lower(scan.token());
      scan.spaces();
      std::string value;
      if (scan.take('=')) {
        scan.spaces();
        if (auto text = scan.quoted()) {
          value = *std::move(text);
        } else {
          value = scan.token();
        }
      }
      if (name == "rel" && lower(value) == "next") next = true;
      scan.spaces();
    }
    if (next) return target;
    scan.spaces();
    if (!scan.rest.empty() && scan.rest.front() != ',') return "";
  }
  return "";
}

Result<TokenAnswer> parse_token_answer(std::string_view text) {
  if (text.size() > kMaxTokenAnswer || !bounded_depth(text)) {
    return errorf(ErrorKind::kUnavailable, "token server: its answer is too large");
  }
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return errorf(ErrorKind::kUnavailable, "token server: its answer is not a JSON object");
  TokenAnswer out;
  out.token = string_member(json, "token");
  if (out.token.empty()) out.token = string_member(json, "access_token");
  out.refresh_token = string_member(json, "refresh_token");
  if (out.token.empty()) return errorf(ErrorKind::kUnavailable, "token server: its answer holds no token");
  if (out.token.size() > kMaxToken || !fit_for_header(out.token)) {
    return errorf(ErrorKind::kUnavailable, "token server: the token is too long or holds control characters");
  }
  const auto expires = json.find("expires_in");
  if (expires != json.end() && expires->is_number_integer()) {
    // The specification's least is 60 s; a server's nonsense must not make us ask for every request.
    out.lifetime = std::chrono::seconds(std::clamp<int64_t>(
        expires->is_number_unsigned() && expires->get<uint64_t>() > 86400 ? 86400 : expires->get<int64_t>(), 30,
        86400));
  }
  return out;
}

ErrorAnswer parse_error_answer(std::string_view body, std::string_view content_type) {
  ErrorAnswer out;
  const size_t first = body.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  const std::string type = lower(content_type.substr(0, 64));
  if (type.starts_with("text/html") || (first != std::string_view::npos && body[first] == '<')) {
    out.html = true;
    const std::string head = lower(body.substr(0, 4096));
    const size_t open = head.find("<title>");
    const size_t close = open == std::string::npos ? open : head.find("</title>", open);
    if (close != std::string::npos) out.message = printable_line(body.substr(open + 7, close - open - 7), 200);
    return out;
  }
  if (body.size() > (256 << 10) || !bounded_depth(body)) return out;
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) {
    if (type.starts_with("text/plain")) out.message = printable_line(body, 200);
    return out;
  }
  const auto errors = json.find("errors");
  if (errors != json.end() && errors->is_array() && !errors->empty() && errors->front().is_object()) {
    out.code = printable_line(string_member(errors->front(), "code"), 64);
    out.message = printable_line(string_member(errors->front(), "message"), 300);
  } else {
    // Token servers: {"details":"..."} or OAuth's {"error":"...","error_description":"..."}.
    for (const char* key : {"error_description", "details", "message", "error"}) {
      out.message = printable_line(string_member(json, key), 300);
      if (!out.message.empty()) break;
    }
  }
  return out;
}

namespace {

/// The list of texts that an object has under a name.
Result<std::vector<std::string>> parse_name_list(std::string_view text, const char* member, std::string_view what) {
  if (!bounded_depth(text)) return errorf(ErrorKind::kUnavailable, "{}: nested too deeply", what);
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return errorf(ErrorKind::kUnavailable, "{}: the answer is not a JSON object", what);
  std::vector<std::string> out;
  const auto names = json.find(member);
  if (names == json.end() || names->is_null()) return out;
  if (!names->is_array() || names->size() > kMaxTags) {
    return errorf(ErrorKind::kUnavailable, "{}: \"{}\" is not a list of at most {}", what, member, kMaxTags);
  }
  for (const Json& name : *names) {
    if (!name.is_string()) return errorf(ErrorKind::kUnavailable, "{}: an entry is not a string", what);
    out.push_back(name.get<std::string>());
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> parse_tag_list(std::string_view text) {
  return parse_name_list(text, "tags", "tag list");
}

Result<std::vector<std::string>> parse_catalogue(std::string_view text) {
  return parse_name_list(text, "repositories", "catalogue");
}

}  // namespace hull::store
