#pragma once
// HTTP for registries on libcurl's multi interface. One network thread runs every transfer of a command; it only moves
// bytes. What to do after a failure is decided by the threads that wait for the bytes.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/error.h"

namespace hull::store {

struct TlsOptions {
  bool verify = true;
  std::string ca_pem;  ///< trusted beside the system's CAs, PEM text
  std::string client_cert, client_key;
};

/// Gives the body of an upload. Called by the network thread, so it must not block.
class UploadSource {
 public:
  virtual ~UploadSource() = default;
  enum class State { kData, kEnd, kNotYet, kFailed };
  /// kData: `count` bytes were written into `into`. kNotYet: call HttpEngine::resume() when there is more.
  virtual State take(std::span<std::byte> into, size_t* count) = 0;
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  ///< "Name: value"
  std::string authorization;         ///< value of Authorization; dropped when a redirect leaves scheme, host and port
  std::string body;
  std::shared_ptr<UploadSource> upload;  ///< in place of body
  std::optional<uint64_t> upload_size;   ///< known size; else chunked
  TlsOptions tls;
  bool http1 = false;         ///< a connection of its own (large bodies)
  size_t max_body = 4 << 20;  ///< of a buffered answer
  std::chrono::milliseconds stall_timeout{30000};
};

struct HttpAnswer {
  int status = 0;
  std::string url;                                  ///< where it came from, after redirects
  std::multimap<std::string, std::string> headers;  ///< names in lower case
  std::string body;                                 ///< buffered answers, and the beginning of an error answer
  std::string header(std::string_view name) const;
};

/// Takes the body of a 2xx answer as it comes. All calls come from the network thread.
class BodySink {
 public:
  virtual ~BodySink() = default;
  /// Status and headers of a 2xx answer; false gives the transfer up (on_end follows with an error).
  virtual bool on_head(const HttpAnswer& answer) = 0;
  enum class Take { kTaken, kPause, kStop };
  /// kPause: the same bytes come again after HttpEngine::resume(). kStop: enough; on_end follows as a success.
  virtual Take on_data(std::span<const std::byte> data) = 0;
  /// Once, last. An answer that is not 2xx comes here with the beginning of its body.
  virtual void on_end(Result<HttpAnswer> answer) = 0;
};

/// One transfer under way. Dropping the handle does not end it; cancel() does.
class Transfer;

class HttpEngine {
 public:
  HttpEngine();
  ~HttpEngine();
  HttpEngine(const HttpEngine&) = delete;
  HttpEngine& operator=(const HttpEngine&) = delete;

  /// Waits for the whole answer. Errors: kNotFound (host name), kPermission (TLS verification), kTimeout and
  /// kUnavailable (worth another try), kInvalid (answer over max_body, bad redirect), kConflict (interrupted).
  Result<HttpAnswer> perform(HttpRequest request);
  std::shared_ptr<Transfer> start(HttpRequest request, std::shared_ptr<BodySink> sink);
  /// Lets a paused download or upload go on.
  void resume(const std::shared_ptr<Transfer>& transfer);
  /// Ends it soon; the sink's on_end still comes.
  void cancel(const std::shared_ptr<Transfer>& transfer);

  /// Ends everything under way and to come with kConflict "interrupted" (Ctrl-C). Not for signal handlers.
  void interrupt();
  /// Ends what is under way now (a sibling has failed); later requests are served.
  void end_transfers();
  bool interrupted();
  /// Waits (for a back-off); false when interrupted.
  bool wait_for(std::chrono::milliseconds duration);

 private:
  struct Operation {
    enum class Kind { kStart, kResume, kCancel, kEndAll } kind;
    std::shared_ptr<Transfer> transfer;
  };
  void post(Operation operation);
  void run();
  void finished(void* easy, int code);

  void* multi_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Operation> operations_;
  bool stopping_ = false, interrupted_ = false;
  std::map<void*, std::shared_ptr<Transfer>> running_;  // network thread only
  std::thread thread_;
};

/// Whether trying again may help.
inline bool is_transient(const Error& error) {
  return error.kind() == ErrorKind::kUnavailable || error.kind() == ErrorKind::kTimeout;
}
/// 408, 429, 500, 502, 503, 504.
bool is_transient_status(int status);

/// "https://host:port/a" + "../b" (RFC 3986). kInvalid for what is not http or https, or holds credentials.
Result<std::string> resolve_url(const std::string& base, const std::string& reference);
/// Scheme, host in lower case, and port (default filled in): equal strings are the same origin.
std::string origin_of(const std::string& url);
/// Percent-encodes everything but unreserved characters.
std::string url_encode(std::string_view text);
/// Without query and credentials, for messages: queries of signed addresses are secrets.
std::string url_for_people(const std::string& url);

}  // namespace hull::store
