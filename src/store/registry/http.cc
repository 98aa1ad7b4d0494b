#include "store/registry/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "store/registry/http_answers.h"

namespace hull::store {
namespace {

constexpr int kMaxRedirects = 10;
constexpr size_t kMaxHeaders = 256;
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr long kReceiveBuffer = 256 << 10;
constexpr long kConnectTimeoutMs = 15000;
constexpr const char* kUserAgent = "hull/0.1 (linux)";

struct CurlGlobal {
  CurlGlobal() { curl_global_init(CURL_GLOBAL_DEFAULT); }
  ~CurlGlobal() { curl_global_cleanup(); }
};

struct UrlHandle {
  CURLU* handle = curl_url();
  UrlHandle() = default;
  UrlHandle(const UrlHandle&) = delete;
  UrlHandle& operator=(const UrlHandle&) = delete;
  ~UrlHandle() { curl_url_cleanup(handle); }
  bool set(const std::string& text) { return curl_url_set(handle, CURLUPART_URL, text.c_str(), 0) == CURLUE_OK; }
  std::string get(CURLUPart part, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_url_get(handle, part, &text, flags) != CURLUE_OK || text == nullptr) return "";
    std::string out = text;
    curl_free(text);
    return out;
  }
};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

Error interrupted_error() { return errorf(ErrorKind::kConflict, "interrupted"); }

Error curl_error(CURLcode code, const char* detail, const HttpRequest& request) {
  const std::string what = fmt::format("{} {}", request.method, url_for_people(request.url));
  const std::string why = detail[0] != '\0' ? printable_line(detail, 200) : std::string(curl_easy_strerror(code));
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return errorf(ErrorKind::kNotFound, "{}: {}", what, why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return errorf(ErrorKind::kPermission,
                    "{}: the certificate is not trusted ({}): give its CA as 'ca' for this registry in hull.toml, or "
                    "'insecure = true' to do without verification",
                    what, why);
    case CURLE_SSL_CONNECT_ERROR:
      return errorf(
          ErrorKind::kPermission,
          "{}: TLS failed ({}); a registry that speaks plain HTTP must be named in hull.toml with 'insecure = "
          "true'",
          what, why);
    case CURLE_SSL_CERTPROBLEM:
      return errorf(ErrorKind::kPermission, "{}: the client certificate can't be used ({})", what, why);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return errorf(ErrorKind::kInvalid, "{}: {}", what, why);
    case CURLE_OPERATION_TIMEDOUT:
      return errorf(ErrorKind::kTimeout, "{}: the registry stalled or did not answer in time ({})", what, why);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
      return errorf(ErrorKind::kUnavailable, "{}: the connection was cut ({})", what, why);
    default:
      return errorf(ErrorKind::kUnavailable, "{}: {}", what, why);
  }
}

}  // namespace

bool is_transient_status(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

std::string HttpAnswer::header(std::string_view name) const {
  const auto it = headers.find(std::string(name));
  return it == headers.end() ? std::string() : it->second;
}

std::string url_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string url_for_people(const std::string& url) {
  std::string out = printable_line(url.substr(0, url.find_first_of("?#")), 300);
  const size_t scheme = out.find("://");
  const size_t at = out.find('@');
  if (scheme != std::string::npos && at != std::string::npos && at < out.find('/', scheme + 3)) {
    out.erase(scheme + 3, at - scheme - 2);
  }
  return out;
}

Result<std::string> resolve_url(const std::string& base, const std::string& reference) {
  const auto bad = [&](std::string_view why) {
    return errorf(ErrorKind::kInvalid, "address \"{}\": {}", url_for_people(reference), why);
  };
  if (reference.size() > (16 << 10)) return bad("it is too long");
  for (const char c : reference) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad("it holds control characters");
  }
  UrlHandle url;
  if (!base.empty() && !url.set(base)) return bad("its base can't be read");
  if (!url.set(reference)) return bad("it can't be read");
  const std::string scheme = url.get(CURLUPART_SCHEME);
  if (scheme != "https" && scheme != "http") return bad("it is neither http nor https");
  if (!url.get(CURLUPART_USER).empty() || !url.get(CURLUPART_PASSWORD).empty()) return bad("it holds credentials");
  return url.get(CURLUPART_URL);
}

std::string origin_of(const std::string& text) {
  UrlHandle url;
  if (!url.set(text)) return "";
  return lower(url.get(CURLUPART_SCHEME)) + "://" + lower(url.get(CURLUPART_HOST)) + ":" +
         url.get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

class Transfer {
 public:
  Transfer(HttpRequest what, std::shared_ptr<BodySink> where) : request(std::move(what)), sink(std::move(where)) {}
  ~Transfer() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    curl_slist_free_all(header_list);
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  HttpRequest request;
  std::shared_ptr<BodySink> sink;
  CURL* easy = nullptr;
  curl_slist* header_list = nullptr;
  char error_text[CURL_ERROR_SIZE] = {};
  HttpAnswer answer;
  size_t header_bytes = 0;
  std::set<std::string> visited;
  bool head_given = false, stopped = false, refused = false, error_body_full = false;
  std::optional<Error> own_error;

  bool success_status() const { return answer.status >= 200 && answer.status < 300; }

  void set_up() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    curl_slist_free_all(header_list);
    header_list = nullptr;
    easy = curl_easy_init();
    answer = {};
    answer.url = request.url;
    header_bytes = 0;
    head_given = false;
    error_body_full = false;
    const auto option = [this](CURLoption name, auto value) { curl_easy_setopt(easy, name, value); };
    option(CURLOPT_URL, request.url.c_str());
    option(CURLOPT_NOSIGNAL, 1L);
    option(CURLOPT_NOPROGRESS, 1L);
    option(CURLOPT_PROTOCOLS_STR, "http,https");
    option(CURLOPT_FOLLOWLOCATION, 0L);
    option(CURLOPT_USERAGENT, kUserAgent);
    option(CURLOPT_ERRORBUFFER, error_text);
    option(CURLOPT_PRIVATE, this);
    option(CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
    // A paused transfer does not count as stalled (curl leaves it out of the measurement).
    option(CURLOPT_LOW_SPEED_LIMIT, 1L);
    option(CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>((request.stall_timeout.count() + 999) / 1000)));
    option(CURLOPT_BUFFERSIZE, kReceiveBuffer);
    option(CURLOPT_TCP_KEEPALIVE, 1L);
    option(CURLOPT_HTTP_VERSION, static_cast<long>(request.http1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
    option(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    option(CURLOPT_HEADERDATA, this);
    option(CURLOPT_WRITEFUNCTION, &Transfer::on_write);
    option(CURLOPT_WRITEDATA, this);
    option(CURLOPT_SSL_VERIFYPEER, request.tls.verify ? 1L : 0L);
    option(CURLOPT_SSL_VERIFYHOST, request.tls.verify ? 2L : 0L);
    if (!request.tls.ca_pem.empty()) {
      option(CURLOPT_CAPATH, "/etc/ssl/certs");
      curl_blob blob{};
      blob.data = request.tls.ca_pem.data();
      blob.len = request.tls.ca_pem.size();
      blob.flags = CURL_BLOB_COPY;
      option(CURLOPT_CAINFO_BLOB, &blob);
    }
    if (!request.tls.client_cert.empty()) option(CURLOPT_SSLCERT, request.tls.client_cert.c_str());
    if (!request.tls.client_key.empty()) option(CURLOPT_SSLKEY, request.tls.client_key.c_str());
    for (const std::string& header : request.headers) header_list = curl_slist_append(header_list, header.c_str());
    if (!request.authorization.empty()) {
      header_list = curl_slist_append(header_list, ("Authorization: " + request.authorization).c_str());
    }
    // No "Expect: 100-continue": it costs a second against servers that do not know it.
    header_list = curl_slist_append(header_list, "Expect:");
    if (request.method == "HEAD") {
      option(CURLOPT_NOBODY, 1L);
    } else if (request.upload != nullptr) {
      option(CURLOPT_UPLOAD, 1L);
      option(CURLOPT_READFUNCTION, &Transfer::on_read);
      option(CURLOPT_READDATA, this);
      option(CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
      if (request.upload_size) {
        option(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(*request.upload_size));
      } else {
        header_list = curl_slist_append(header_list, "Transfer-Encoding: chunked");
      }
      option(CURLOPT_CUSTOMREQUEST, request.method.c_str());
    } else if (request.method != "GET") {
      option(CURLOPT_POST, 1L);
      option(CURLOPT_POSTFIELDS, request.body.c_str());
      option(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
      option(CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
    option(CURLOPT_HTTPHEADER, header_list);
  }

  static size_t on_header(char* data, size_t, size_t size, void* self) {
    return static_cast<Transfer*>(self)->header_line(std::string_view(data, size)) ? size : 0;
  }
  bool header_line(std::string_view line) {
    header_bytes += line.size();
    if (header_bytes > kMaxHeaderBytes || answer.headers.size() > kMaxHeaders) {
      own_error = errorf(ErrorKind::kInvalid, "{} {}: the answer's headers are over {} bytes", request.method,
                         url_for_people(request.url), kMaxHeaderBytes);
      return false;
    }
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {
      // A new status line: the headers of a 1xx answer do not count.
      answer.headers.clear();
      return true;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    answer.headers.emplace(lower(line.substr(0, colon)), std::string(value));
    return true;
  }

  void read_status() {
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    answer.status = static_cast<int>(status);
  }

  static size_t on_write(char* data, size_t, size_t size, void* self) {
    return static_cast<Transfer*>(self)->body_bytes(std::as_bytes(std::span(data, size)));
  }
  size_t body_bytes(std::span<const std::byte> data) {
    if (answer.status == 0) read_status();
    if (!success_status()) {
      const size_t room = kMaxErrorBody - std::min(kMaxErrorBody, answer.body.size());
      answer.body.append(reinterpret_cast<const char*>(data.data()), std::min(room, data.size()));
      if (data.size() <= room) return data.size();
      error_body_full = true;  // what is there is enough for a message
      return 0;
    }
    if (!give_head()) return 0;
    switch (sink->on_data(data)) {
      case BodySink::Take::kTaken:
        return data.size();
      case BodySink::Take::kPause:
        return CURL_WRITEFUNC_PAUSE;
      case BodySink::Take::kStop:
        break;
    }
    stopped = true;
    return 0;
  }
  bool give_head() {
    if (head_given) return !refused;
    head_given = true;
    refused = !sink->on_head(answer);
    return !refused;
  }

  static size_t on_read(char* into, size_t, size_t size, void* self) {
    auto* transfer = static_cast<Transfer*>(self);
    size_t count = 0;
    switch (transfer->request.upload->take(std::as_writable_bytes(std::span(into, size)), &count)) {
      case UploadSource::State::kData:
        return count;
      case UploadSource::State::kEnd:
        return 0;
      case UploadSource::State::kNotYet:
        return CURL_READFUNC_PAUSE;
      case UploadSource::State::kFailed:
        break;
    }
    return CURL_READFUNC_ABORT;
  }

  /// Prepares the next hop of a redirect: false when this answer is final.
  Result<bool> redirect() {
    const int status = answer.status;
    const bool is_redirect = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    if (!is_redirect || (request.method != "GET" && request.method != "HEAD")) return false;
    const std::string location = answer.header("location");
    if (location.empty()) return false;
    TRY_ASSIGN(std::string next, resolve_url(request.url, location));
    const std::string from = url_for_people(request.url);
    visited.insert(request.url);
    if (visited.contains(next)) {
      return errorf(ErrorKind::kInvalid, "GET {}: the registry redirects in a circle (to {})", from,
                    url_for_people(next));
    }
    if (visited.size() > kMaxRedirects) {
      return errorf(ErrorKind::kInvalid, "GET {}: more than {} redirects", from, kMaxRedirects);
    }
    if (request.url.starts_with("https://") && next.starts_with("http://")) {
      return errorf(ErrorKind::kInvalid, "GET {}: refused to follow a redirect from https to plain http ({})", from,
                    url_for_people(next));
    }
    // Credentials and a private CA or certificate belong to the host that they were given for.
    if (origin_of(next) != origin_of(request.url)) {
      request.authorization.clear();
      request.tls.client_cert.clear();
      request.tls.client_key.clear();
    }
    request.url = std::move(next);
    return true;
  }
};

HttpEngine::HttpEngine() {
  static const CurlGlobal global;
  multi_ = curl_multi_init();
  curl_multi_setopt(static_cast<CURLM*>(multi_), CURLMOPT_MAX_HOST_CONNECTIONS, 16L);
  curl_multi_setopt(static_cast<CURLM*>(multi_), CURLMOPT_MAX_TOTAL_CONNECTIONS, 64L);
  thread_ = std::thread([this] { run(); });
}

HttpEngine::~HttpEngine() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  curl_multi_wakeup(static_cast<CURLM*>(multi_));
  thread_.join();
  curl_multi_cleanup(static_cast<CURLM*>(multi_));
}

void HttpEngine::post(Operation operation) {
  {
    const std::lock_guard guard(mutex_);
    operations_.push_back(std::move(operation));
  }
  curl_multi_wakeup(static_cast<CURLM*>(multi_));
}

std::shared_ptr<Transfer> HttpEngine::start(HttpRequest request, std::shared_ptr<BodySink> sink) {
  auto transfer = std::make_shared<Transfer>(std::move(request), std::move(sink));
  post({Operation::Kind::kStart, transfer});
  return transfer;
}
void HttpEngine::resume(const std::shared_ptr<Transfer>& transfer) { post({Operation::Kind::kResume, transfer}); }
void HttpEngine::cancel(const std::shared_ptr<Transfer>& transfer) { post({Operation::Kind::kCancel, transfer}); }

void HttpEngine::end_transfers() { post({Operation::Kind::kEndAll, nullptr}); }

void HttpEngine::interrupt() {
  {
    const std::lock_guard guard(mutex_);
    interrupted_ = true;
  }
  changed_.notify_all();
  curl_multi_wakeup(static_cast<CURLM*>(multi_));
}

bool HttpEngine::interrupted() {
  const std::lock_guard guard(mutex_);
  return interrupted_;
}

bool HttpEngine::wait_for(std::chrono::milliseconds duration) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, duration, [this] { return interrupted_; });
}

void HttpEngine::run() {
  auto* multi = static_cast<CURLM*>(multi_);
  const auto end_all = [&](const Error& why) {
    for (auto& [easy, transfer] : running_) {
      curl_multi_remove_handle(multi, easy);
      transfer->sink->on_end(why);
    }
    running_.clear();
  };
  while (true) {
    std::deque<Operation> todo;
    bool stop = false;
    bool cut = false;
    {
      const std::lock_guard guard(mutex_);
      todo.swap(operations_);
      stop = stopping_;
      cut = interrupted_;
    }
    if (stop || cut) {
      end_all(interrupted_error());
      for (const Operation& one : todo) {
        if (one.kind == Operation::Kind::kStart) one.transfer->sink->on_end(interrupted_error());
      }
      if (stop) return;
    } else {
      for (const Operation& one : todo) {
        CURL* easy = one.transfer != nullptr ? one.transfer->easy : nullptr;
        switch (one.kind) {
          case Operation::Kind::kEndAll:
            end_all(errorf(ErrorKind::kConflict, "abandoned"));
            break;
          case Operation::Kind::kStart:
            one.transfer->set_up();
            running_[one.transfer->easy] = one.transfer;
            curl_multi_add_handle(multi, one.transfer->easy);
            break;
          case Operation::Kind::kResume:
            if (running_.contains(easy)) curl_easy_pause(easy, CURLPAUSE_CONT);
            break;
          case Operation::Kind::kCancel:
            if (running_.contains(easy)) {
              curl_multi_remove_handle(multi, easy);
              running_.erase(easy);
              one.transfer->sink->on_end(errorf(ErrorKind::kConflict, "cancelled"));
            }
            break;
        }
      }
    }
    int active = 0;
    curl_multi_perform(multi, &active);
    int queued = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi, &queued)) {
      if (message->msg == CURLMSG_DONE) finished(message->easy_handle, static_cast<int>(message->data.result));
    }
    curl_multi_poll(multi, nullptr, 0, 60000, nullptr);
  }
}

void HttpEngine::finished(void* easy, int raw_code) {
  const auto code = static_cast<CURLcode>(raw_code);
  auto* multi = static_cast<CURLM*>(multi_);
  curl_multi_remove_handle(multi, easy);
  const auto it = running_.find(easy);
  if (it == running_.end()) return;
  const std::shared_ptr<Transfer> transfer = it->second;
  running_.erase(it);
  transfer->read_status();
  if (transfer->own_error) {
    transfer->sink->on_end(*transfer->own_error);
    return;
  }
  if (transfer->refused) {
    transfer->sink->on_end(errorf(ErrorKind::kConflict, "refused"));
    return;
  }
  const bool complete = code == CURLE_OK || transfer->stopped || transfer->error_body_full;
  if (!complete) {
    transfer->sink->on_end(curl_error(code, transfer->error_text, transfer->request));
    return;
  }
  auto again = transfer->redirect();
  if (!again.ok()) {
    transfer->sink->on_end(std::move(again).error());
    return;
  }
  if (*again) {
    transfer->set_up();
    running_[transfer->easy] = transfer;
    curl_multi_add_handle(multi, transfer->easy);
    return;
  }
  // An answer without a body has not shown its head yet.
  if (transfer->success_status() && !transfer->give_head()) {
    transfer->sink->on_end(errorf(ErrorKind::kConflict, "refused"));
    return;
  }
  transfer->sink->on_end(std::move(transfer->answer));
}

namespace {

/// Collects a small answer and wakes the thread that waits for it.
class Collector final : public BodySink {
 public:
  explicit Collector(size_t limit) : limit_(limit) {}
  bool on_head(const HttpAnswer& answer) override {
    const std::string length = answer.header("content-length");
    if (length.size() > 18) too_long_ = true;
    return !too_long_;
  }
  Take on_data(std::span<const std::byte> data) override {
    if (body_.size() + data.size() > limit_) {
      too_long_ = true;
      return Take::kStop;
    }
    body_.append(reinterpret_cast<const char*>(data.data()), data.size());
    return Take::kTaken;
  }
  void on_end(Result<HttpAnswer> answer) override {
    const std::lock_guard guard(mutex_);
    outcome_ = std::move(answer);
    ended_.notify_all();
  }
  Result<HttpAnswer> wait(const HttpRequest& request) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return outcome_.has_value(); });
    if (too_long_) {
      return errorf(ErrorKind::kInvalid, "{} {}: the answer is over the limit of {} bytes", request.method,
                    url_for_people(request.url), limit_);
    }
    Result<HttpAnswer> out = *std::move(outcome_);
    if (out.ok() && out->status >= 200 && out->status < 300) out->body = std::move(body_);
    return out;
  }

 private:
  const size_t limit_;
  std::string body_;
  bool too_long_ = false;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<Result<HttpAnswer>> outcome_;
};

}  // namespace

Result<HttpAnswer> HttpEngine::perform(HttpRequest request) {
  auto collector = std::make_shared<Collector>(request.max_body);
  start(request, collector);
  return collector->wait(request);
}

}  // namespace hull::store
