#include "api/request.h"

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::api {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr size_t kMostParameters = 256;

}  // namespace

std::string to_string(Version version) { return fmt::format("{}.{}", version.major, version.minor); }

std::optional<Version> parse_version(std::string_view text) {
  const size_t dot = text.find('.');
  if (dot == std::string_view::npos) return {};
  const auto major = parse_int(text.substr(0, dot), 0, 999);
  const auto minor = parse_int(text.substr(dot + 1), 0, 999);
  if (!major.ok() || !minor.ok()) return {};
  return Version{static_cast<int>(*major), static_cast<int>(*minor)};
}

Result<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return errorf(ErrorKind::kInvalid, "invalid URL escape in the request's target");
      c = static_cast<char>(high << 4 | low);
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    if (c == '\0') return errorf(ErrorKind::kInvalid, "the request's target holds a NUL character");
    out += c;
  }
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> out;
  while (!text.empty()) {
    const size_t end = text.find('&');
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (part.empty()) continue;
    if (out.size() == kMostParameters) return errorf(ErrorKind::kInvalid, "too many query parameters");
    const size_t equals = part.find('=');
    TRY_ASSIGN(std::string name, percent_decode(part.substr(0, equals), true));
    std::string value;
    if (equals != std::string_view::npos) {
      TRY_ASSIGN(value, percent_decode(part.substr(equals + 1), true));
    }
    out.emplace_back(std::move(name), std::move(value));
  }
  return out;
}

const std::string& Request::param(std::string_view name) const {
  static const std::string none;
  for (const auto& [key, value] : params_) {
    if (key == name) return value;
  }
  return none;
}

std::string_view Request::query(std::string_view name) const {
  for (const auto& [key, value] : query_) {
    if (key == name) return value;
  }
  return {};
}

bool Request::has_query(std::string_view name) const {
  return std::any_of(query_.begin(), query_.end(), [&](const auto& entry) { return entry.first == name; });
}

std::vector<std::string> Request::query_all(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : query_) {
    if (key == name) out.push_back(value);
  }
  return out;
}

bool Request::query_flag(std::string_view name, bool fallback) const {
  if (!has_query(name)) return fallback;
  std::string value(query(name));
  for (char& c : value) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return !(value.empty() || value == "0" || value == "no" || value == "false" || value == "none");
}

Result<std::optional<int64_t>> Request::query_number(std::string_view name, int64_t lowest, int64_t highest) const {
  const std::string_view text = query(name);
  if (text.empty()) return std::optional<int64_t>();
  const auto number = parse_int(text, lowest, highest);
  if (!number.ok()) {
    return errorf(ErrorKind::kInvalid, "bad parameter {}: \"{}\" is no whole number from {} to {}", name, text, lowest,
                  highest);
  }
  return std::optional<int64_t>(*number);
}

Result<Filters> Request::filters(std::initializer_list<std::string_view> known) const {
  return parse_filters(query("filters"), known);
}

Result<size_t> Request::read_body(char* data, size_t size) {
  if (head_->expects_continue && !continue_sent_) {
    continue_sent_ = true;
    TRY(stream_->write("HTTP/1.1 100 Continue\r\n\r\n", 30'000));
  }
  return reader_->read_body(data, size);
}

Result<std::string> Request::body_text(size_t limit) {
  const auto too_long = [&] {
    return errorf(ErrorKind::kInvalid, "the body of the request is longer than {} bytes", limit);
  };
  if (head_->content_length.value_or(0) > limit) return too_long();
  std::string out;
  char buffer[16 << 10];
  for (;;) {
    TRY_ASSIGN(const size_t got, read_body(buffer, sizeof buffer));
    if (got == 0) return out;
    if (out.size() + got > limit) return too_long();
    out.append(buffer, got);
  }
}

Result<std::string> Request::workload(std::string_view ref) const {
  if (!who_->scoped()) return std::string(ref);
  TRY_ASSIGN(engine::Engine* const engine, session_->engine());
  TRY_ASSIGN(const engine::WorkloadSummary found, engine->summary(ref));
  if (!who_->sees(found.labels)) return errorf(ErrorKind::kNotFound, "No such container: {}", ref);
  return found.id;
}

}  // namespace hull::api
