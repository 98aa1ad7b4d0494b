#pragma once
// What a handler gets and what it answers with.
//
// A handler is called with the head parsed, the version and the right checked. It reads the body if it wants one, asks
// the engine, and answers through Response in one of four ways: a whole body (json, text, empty), a chunked stream
// (start_stream), or the connection itself (hijack). An Error that it returns before anything was sent
// becomes {"message": ...} with the status of its kind.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/access.h"
#include "api/cache.h"
#include "api/http_reader.h"
#include "api/stream.h"
#include "base/error.h"
#include "engine/engine.h"

namespace hull::api {

/// A version of the API: 1.43 is {1, 43}.
struct Version {
  int major = 1, minor = 0;
  auto operator<=>(const Version&) const = default;
};
inline constexpr Version kOldestVersion{1, 24};
inline constexpr Version kNewestVersion{1, 56};
std::string to_string(Version version);
std::optional<Version> parse_version(std::string_view text);

using Filters = std::multimap<std::string, std::string>;

/// What is the same for every request of a connection.
class Session {
 public:
  virtual ~Session() = default;
  /// Opened by the first request that needs it, once for each connection.
  virtual Result<engine::Engine*> engine() = 0;
  virtual const engine::Settings& settings() const = 0;
  AnswerCache& cache() { return cache_; }

 private:
  AnswerCache cache_;
};

class Request {
 public:
  std::string_view method() const { return method_; }
  /// Decoded, without the version.
  std::string_view path() const { return path_; }
  Version version() const { return version_; }
  bool at_least(int minor) const { return version_ >= Version{1, minor}; }
  const Principal& who() const { return *who_; }

  /// What stands for {name} in the route's pattern.
  const std::string& param(std::string_view name) const;
  /// The first value of a query parameter, "" when there is none.
  std::string_view query(std::string_view name) const;
  bool has_query(std::string_view name) const;
  std::vector<std::string> query_all(std::string_view name) const;
  /// As Docker reads flags: absent, "", 0, no, false and none are false.
  bool query_flag(std::string_view name, bool fallback = false) const;
  /// kInvalid when it is there and no number in range.
  Result<std::optional<int64_t>> query_number(std::string_view name, int64_t lowest, int64_t highest) const;
  /// The parameter `filters`: {"name": ["value"]} or {"name": {"value": true}}. kInvalid for any other form, and for a
  /// name that is not in `known`.
  Result<Filters> filters(std::initializer_list<std::string_view> known) const;
  std::string_view header(std::string_view name) const { return head_->header(name); }
  /// Path and query as they were sent.
  const std::string& target() const { return head_->target; }

  /// The body, bytes as they come; 0 at the end.
  Result<size_t> read_body(char* data, size_t size);
  /// The whole body; kInvalid when it is longer than `limit`.
  Result<std::string> body_text(size_t limit = kMostJson);
  bool has_body() const { return head_->chunked || head_->content_length.value_or(0) > 0; }
  static constexpr size_t kMostJson = 4 << 20;

  Result<engine::Engine*> engine() const { return session_->engine(); }
  const engine::Settings& settings() const { return session_->settings(); }
  /// Answers of this connection, by target().
  AnswerCache& cache() const { return session_->cache(); }

  /// How a handler names a workload to the engine: kNotFound "No such container" when it is outside of a scoped
  /// principal's labels, so that it learns nothing of others'.
  Result<std::string> workload(std::string_view ref) const;
  /// For the audit log: what the request is about when it isn't {id} or {name}.
  void note_subject(std::string subject) { subject_ = std::move(subject); }
  const std::string& subject() const { return subject_; }

 private:
  friend class Connection;
  friend class Response;
  friend class RequestBuilder;
  friend struct Match;
  std::string method_, path_, subject_;
  Version version_ = kNewestVersion;
  std::vector<std::pair<std::string, std::string>> params_, query_;
  const RequestHead* head_ = nullptr;
  HttpReader* reader_ = nullptr;
  Stream* stream_ = nullptr;
  Session* session_ = nullptr;
  const Principal* who_ = nullptr;
  bool continue_sent_ = false;
};

/// Query parameters and path, decoded (RFC 3986, "+" is a space in the query). kInvalid for NUL, control characters in
/// the path and broken escapes.
Result<std::string> percent_decode(std::string_view text, bool plus_is_space);
Result<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view text);
Result<Filters> parse_filters(std::string_view json, const std::vector<std::string_view>& known);

class Response {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  /// `body` is JSON.
  void json(int status, std::string body);
  void text(int status, std::string_view content_type, std::string body);
  void empty(int status);
  /// Before any of the ways to answer.
  void add_header(std::string name, std::string value) { headers_.emplace_back(std::move(name), std::move(value)); }

  /// Sends the head of a chunked answer (for HTTP/1.0 one that ends with the connection). From here on a client that
  /// goes away ends this process, unless `watch` is false: long calls of the engine need not look after it.
  Result<void> start_stream(int status, std::string_view content_type, bool watch = true);
  /// One chunk, sent at once. Waits as long as the client does not read.
  Result<void> write(std::string_view data);

  /// Ends this process as soon as the client is gone, until the handler returns.
  void watch_client();

  /// Takes over the connection as Docker's attach does: 101 when the client asks for an upgrade, else 200; then raw
  /// bytes both ways. *early is what the client has sent already. The content type tells of multiplexing from 1.42 on.
  Result<Stream*> hijack(bool multiplexed, std::string* early);
  /// Takes over the connection as a websocket; kInvalid when the request is no handshake of one.
  Result<Stream*> accept_websocket(std::string* early);
  bool started() const { return started_; }
  int status() const { return status_; }

 private:
  friend class Connection;
  Response(Request& request, Stream& stream) : request_(request), stream_(stream) {}
  Result<void> finish();
  Result<void> send_whole(int status, std::string_view content_type, std::string_view body);
  std::string head_text(int status, std::string_view content_type, std::optional<size_t> length, bool chunked);
  void stop_watching();

  struct Watch;
  Request& request_;
  Stream& stream_;
  Headers headers_;
  std::shared_ptr<Watch> watch_;
  std::function<void()> on_start_;
  int status_ = 0;
  std::string content_type_, body_;
  bool ready_ = false;    // a whole body waits for being sent
  bool started_ = false;  // the head is on its way
  bool chunked_ = false, streaming_ = false, taken_over_ = false, broken_ = false;
};

}  // namespace hull::api
