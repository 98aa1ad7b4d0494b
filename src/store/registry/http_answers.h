#pragma once
// What registries write into headers and small JSON answers, read with bounds. Everything here is hostile input and is
// fuzzed (http_answers_fuzz.cc).

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::store {

/// One challenge of a WWW-Authenticate header (RFC 9110, 11.6.1): scheme in lower case, parameters by lower-case name.
struct AuthChallenge {
  std::string scheme;  // "bearer", "basic"
  std::map<std::string, std::string> parameters;
};
/// Every challenge that can be read; malformed ones are left out.
std::vector<AuthChallenge> parse_www_authenticate(std::string_view header);

/// "bytes 0-99/1000"; nullopt when it is anything else or the numbers contradict each other.
struct ContentRange {
  uint64_t first = 0, last = 0;
  std::optional<uint64_t> total;
};
std::optional<ContentRange> parse_content_range(std::string_view header);

/// Seconds, or an HTTP date seen from `now`; nullopt when unreadable. Never negative, at most a day.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view header,
                                                      std::chrono::system_clock::time_point now);

/// The target of rel="next" in a Link header (RFC 8288), "" when there is none.
std::string parse_link_next(std::string_view header);

/// The answer of a token server (distribution's token specification).
struct TokenAnswer {
  std::string token;
  std::string refresh_token;
  std::chrono::seconds lifetime{60};
};
Result<TokenAnswer> parse_token_answer(std::string_view json);

/// The registry's own words from an error body: "manifest unknown" of {"errors":[{"code","message"}]}; for HTML the
/// title; else "". One line, without control characters, at most 300 bytes.
struct ErrorAnswer {
  std::string code;  // MANIFEST_UNKNOWN
  std::string message;
  bool html = false;
};
ErrorAnswer parse_error_answer(std::string_view body, std::string_view content_type);

/// The list of a tags/list answer.
Result<std::vector<std::string>> parse_tag_list(std::string_view json);
/// GET /v2/_catalog.
Result<std::vector<std::string>> parse_catalogue(std::string_view json);

/// Text from outside, fit for a terminal: control characters and invalid UTF-8 become '?', at most `limit` bytes.
std::string printable_line(std::string_view text, size_t limit);

}  // namespace hull::store
