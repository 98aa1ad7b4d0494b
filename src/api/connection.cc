#include "api/connection.h"

#include <poll.h>
#include <sys/wait.h>

#include "api/dashboard.h"
#include "api/problem.h"
#include "base/error_format.h"

namespace hull::api {
namespace {

using Clock = std::chrono::steady_clock;

/// A body that nobody wanted is read over up to here; beyond it the connection is closed.
constexpr size_t kDrained = 16 << 20;

/// Monitors and others that were started from here and have ended.
void reap() {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

}  // namespace

Connection::Connection(Stream& stream, Principal who, Session& session, const Router& router, AuditLog* audit,
                       ConnectionLimits limits, bool loopback_only, std::string token, Result<void> known)
    : stream_(stream),
      who_(std::move(who)),
      session_(session),
      router_(router),
      audit_(audit),
      limits_(limits),
      loopback_only_(loopback_only),
      token_(std::move(token)),
      known_(std::move(known)),
      reader_([this](char* data, size_t size) { return receive(data, size); }) {}

Result<size_t> Connection::receive(char* data, size_t size) {
  int timeout = limits_.body_timeout_ms;
  if (head_deadline_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*head_deadline_ - Clock::now()).count();
    timeout = static_cast<int>(std::max<int64_t>(left, 1));
  }
  return stream_.read(data, size, timeout);
}

/// Waits for the first byte of the next request; false when none comes.
bool Connection::await_request() {
  const auto end = Clock::now() + std::chrono::milliseconds(limits_.idle_timeout_ms);
  while (!reader_.has_rest() && !stream_.buffered()) {
    reap();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return false;
    pollfd watched = {stream_.fd(), POLLIN, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(left));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;  // EINTR: a child has ended
  }
  return true;
}

void Connection::serve() {
  while (await_request() && answer()) {
  }
}

bool Connection::refuse(int status, std::string_view message) {
  only_looked_ = false;
  const std::string body = problem_json(message);
  const std::string text = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", status,
      reason_of(status), body.size(), body);
  ignore_result(stream_.write(text, limits_.head_timeout_ms));
  stream_.shutdown_write();
  return false;
}

bool Connection::host_is_local() const {
  std::string_view host = reader_.head().header("host");
  if (host.starts_with('[')) return host.starts_with("[::1]");
  host = host.substr(0, host.rfind(':'));
  return host == "localhost" || host == "127.0.0.1" || host == "docker";
}

/// Browsers say which page a request comes from. One of another origin must not use this user's certificate or port.
bool Connection::origin_is_own() const {
  const std::string_view origin = reader_.head().header("origin");
  const size_t scheme = origin.find("://");
  return origin.empty() ||
         (scheme != std::string_view::npos && origin.substr(scheme + 3) == reader_.head().header("host"));
}

bool Connection::answer() {
  head_deadline_ = Clock::now() + std::chrono::milliseconds(limits_.head_timeout_ms);
  const auto next = reader_.next();
  head_deadline_.reset();
  if (!next.ok()) return next.error().kind() == ErrorKind::kTimeout && refuse(408, "the request took too long");
  if (*next == HttpReader::Next::kEnd) return false;
  if (*next == HttpReader::Next::kRefused) return refuse(reader_.refusal().status, reader_.refusal().message);

  const RequestHead& head = reader_.head();
  Request request;
  request.method_ = head.method;
  request.head_ = &head;
  request.reader_ = &reader_;
  request.stream_ = &stream_;
  request.session_ = &session_;
  request.who_ = &who_;
  Response response(request, stream_);
  route_ = nullptr;
  recorded_ = false;
  // What lives long is on record from its beginning: its end may be that of this process.
  response.on_start_ = [&] { record(request, response, {}); };
  const Result<void> outcome = dispatch(request, response);
  if (!outcome.ok() && !response.started_) {
    // 401, 404 and 405 have set their own status.
    const int status = response.status_ >= 400 ? response.status_ : status_of(outcome.error());
    response.json(status, problem_json(outcome.error().message()));
  }
  const bool whole = outcome.ok() || !response.started_;
  only_looked_ = only_looked_ && looks_only() && !response.started_ && response.status_ < 500;
  const Result<void> sent = whole ? response.finish() : Result<void>(outcome.error());
  response.stop_watching();
  record(request, response, outcome);
  if (!sent.ok() || response.taken_over_) {
    stream_.shutdown_write();
    return false;
  }
  if (!head.keep_alive || (response.streaming_ && !response.chunked_)) return false;
  if (reader_.body_done()) return true;
  if (head.expects_continue && !request.continue_sent_) return false;  // the client may or may not send it now
  char ignored[16 << 10];
  for (size_t drained = 0; drained < kDrained;) {
    const auto got = reader_.read_body(ignored, sizeof ignored);
    if (!got.ok()) return false;
    if (*got == 0) return true;
    drained += *got;
  }
  return false;
}

Result<void> Connection::dispatch(Request& request, Response& response) {
  const std::string_view target = reader_.head().target;
  if (!target.starts_with('/')) return errorf(ErrorKind::kInvalid, "the request's target has to be a path");
  if (loopback_only_ && !host_is_local()) {
    return errorf(ErrorKind::kPermission,
                  "this address is served to this machine only, by the names localhost and "
                  "127.0.0.1");
  }
  if (!origin_is_own()) {
    return errorf(ErrorKind::kPermission, "pages of other origins are not served");
  }
  if (!known_.ok()) return known_.error();
  const size_t question = target.find('?');
  TRY_ASSIGN(request.path_, percent_decode(target.substr(0, question), false));
  if (question != std::string_view::npos) {
    std::string_view text = target.substr(question + 1);
    TRY_ASSIGN(request.query_, parse_query(text.substr(0, text.find('#'))));
  }
  if (!token_.empty() && !is_dashboard_path(request.path_) && !carries_token(reader_.head(), token_)) {
    response.status_ = 401;
    return errorf(ErrorKind::kPermission, "a login token is needed: 'hull dashboard' tells it");
  }
  std::string_view path = request.path_;
  TRY_ASSIGN(const std::optional<Version> version, take_version(&path));
  if (version) request.version_ = *version;
  Match match = router_.find(request.method_, path, request.version_.minor);
  if (match.route == nullptr) {
    response.status_ = match.status;
    if (match.status == 405) return errorf(ErrorKind::kInvalid, "method {} is not allowed here", request.method_);
    return errorf(ErrorKind::kNotFound, "page not found");
  }
  request.path_ = std::string(path);
  request.params_ = std::move(match.params);
  route_ = match.route;
  if (!who_.may(route_->right)) {
    return errorf(ErrorKind::kPermission, "{} has the role {}, which may not {} {}", who_.name, to_string(who_.role),
                  request.method_, request.path_);
  }
  if (who_.scoped() && !route_->scoped && route_->right != Right::kNone) {
    return errorf(ErrorKind::kPermission, "{} is confined to workloads of certain labels and may not {} {}", who_.name,
                  request.method_, request.path_);
  }
  return route_->handler(request, response);
}

bool Connection::looks_only() const {
  return route_ != nullptr && (route_->right == Right::kNone || route_->right == Right::kView);
}

void Connection::record(const Request& request, const Response& response, const Result<void>& outcome) {
  if (audit_ == nullptr || std::exchange(recorded_, true)) return;
  AuditEntry entry;
  entry.who = who_.name;
  entry.role = to_string(who_.role);
  entry.method = request.method_;
  entry.path = request.path_;
  entry.subject = request.subject_;
  entry.looks_only = looks_only() && outcome.ok();
  entry.status = response.status_;
  if (!outcome.ok()) entry.error = outcome.error().message();
  audit_->write(entry);
}

}  // namespace hull::api
