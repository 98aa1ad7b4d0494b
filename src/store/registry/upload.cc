#include "store/registry/upload.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/error_format.h"
#include "store/layer/hasher.h"

namespace hull::store {
namespace {

constexpr size_t kChunk = 256 << 10;
constexpr size_t kMaxQueued = 16;  // chunks
constexpr std::chrono::milliseconds kStall{300000};

/// A bounded queue from the thread that makes the bytes to the network thread.
class UploadQueue final : public UploadSource {
 public:
  State take(std::span<std::byte> into, size_t* count) override {
    const std::lock_guard guard(mutex_);
    if (failed_) return State::kFailed;
    if (queue_.empty()) {
      if (closed_) return State::kEnd;
      starved_ = true;
      return State::kNotYet;
    }
    std::vector<std::byte>& front = queue_.front();
    *count = std::min(into.size(), front.size() - used_);
    std::memcpy(into.data(), front.data() + used_, *count);
    used_ += *count;
    if (used_ == front.size()) {
      queue_.pop_front();
      used_ = 0;
      room_.notify_all();
    }
    return State::kData;
  }

  /// False when the transfer has ended. *wake says that the transfer waits for these bytes.
  bool put(std::vector<std::byte> chunk, bool* wake) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return ended_ || queue_.size() < kMaxQueued; });
    if (ended_) return false;
    queue_.push_back(std::move(chunk));
    *wake = std::exchange(starved_, false);
    return true;
  }
  void close(bool failed, bool* wake) {
    const std::lock_guard guard(mutex_);
    closed_ = true;
    failed_ = failed;
    *wake = std::exchange(starved_, false);
  }
  void transfer_ended() {
    const std::lock_guard guard(mutex_);
    ended_ = true;
    room_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable room_;
  std::deque<std::vector<std::byte>> queue_;
  size_t used_ = 0;
  bool closed_ = false, failed_ = false, starved_ = false, ended_ = false;
};

class AnswerWaiter final : public BodySink {
 public:
  explicit AnswerWaiter(std::shared_ptr<UploadQueue> queue) : queue_(std::move(queue)) {}
  bool on_head(const HttpAnswer&) override { return true; }
  Take on_data(std::span<const std::byte>) override { return Take::kTaken; }
  void on_end(Result<HttpAnswer> answer) override {
    queue_->transfer_ended();
    const std::lock_guard guard(mutex_);
    outcome_ = std::move(answer);
    ended_.notify_all();
  }
  Result<HttpAnswer> wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return outcome_.has_value(); });
    return *std::move(outcome_);
  }

 private:
  const std::shared_ptr<UploadQueue> queue_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<Result<HttpAnswer>> outcome_;
};

struct Attempt {
  std::optional<Error> source_error;  // making the bytes failed: no further try
  Result<HttpAnswer> answer;
  UploadedBlob blob;
  std::string authorization;
};

Result<Attempt> send_once(RegistrySession& session, const std::string& repository, const std::string& address,
                          ByteSource& source, const std::string& stale,
                          const std::function<void(uint64_t sent)>& sent) {
  TRY_ASSIGN(HttpRequest request, session.prepare("PATCH", address, RegistrySession::push_scope(repository), stale));
  request.headers = {"Content-Type: application/octet-stream"};
  request.http1 = true;
  request.stall_timeout = kStall;
  auto queue = std::make_shared<UploadQueue>();
  request.upload = queue;
  Attempt out{std::nullopt, errorf(ErrorKind::kInternal, "no answer"), {}, request.authorization};
  TRY_ASSIGN(Hasher hasher, Hasher::create());
  auto waiter = std::make_shared<AnswerWaiter>(queue);
  const std::shared_ptr<Transfer> transfer = session.http().start(std::move(request), waiter);
  bool failed = false;
  while (true) {
    std::vector<std::byte> chunk(kChunk);
    auto got = read_full(source, chunk);
    if (!got.ok()) {
      out.source_error = std::move(got).error();
      failed = true;
      break;
    }
    if (*got == 0) break;
    chunk.resize(*got);
    hasher.update(chunk);
    bool wake = false;
    if (!queue->put(std::move(chunk), &wake)) break;
    if (wake) session.http().resume(transfer);
    out.blob.size += *got;
    sent(out.blob.size);
  }
  bool wake = false;
  queue->close(failed, &wake);
  if (wake) session.http().resume(transfer);
  if (failed) session.http().cancel(transfer);
  out.answer = waiter->wait();
  out.blob.digest = hasher.finish();
  return out;
}

}  // namespace

Result<UploadedBlob> upload_stream(RegistrySession& session, const std::string& repository, std::string upload_url,
                                   const std::function<Result<std::unique_ptr<ByteSource>>()>& open,
                                   const std::function<void(uint64_t sent)>& sent) {
  std::string stale;
  for (int attempt = 1;; ++attempt) {
    if (upload_url.empty()) {
      TRY_ASSIGN(upload_url, session.begin_upload(repository));
    }
    TRY_ASSIGN(const std::unique_ptr<ByteSource> source, open());
    TRY_ASSIGN(Attempt tried, send_once(session, repository, upload_url, *source, stale, sent));
    if (tried.source_error) return *std::move(tried.source_error);
    const bool unauthorized = tried.answer.ok() && tried.answer->status == 401;
    if (tried.answer.ok() && tried.answer->status >= 200 && tried.answer->status < 300) {
      const std::string location = tried.answer->header("location");
      std::string next = upload_url;
      if (!location.empty()) {
        TRY_ASSIGN(next, resolve_url(upload_url, location));
      }
      HttpRequest finish;
      finish.method = "PUT";
      finish.url =
          next + (next.find('?') == std::string::npos ? "?" : "&") + "digest=" + url_encode(tried.blob.digest.str());
      TRY_ASSIGN(const HttpAnswer done,
                 session.send(std::move(finish), RegistrySession::push_scope(repository), false));
      if (done.status == 201 || done.status == 204) return tried.blob;
      return session.answer_error(
          done, fmt::format("finish the upload of blob {} to {}", tried.blob.digest.short_hex(), repository));
    }
    const bool again = unauthorized        ? stale.empty() && session.note_challenge(*tried.answer)
                       : tried.answer.ok() ? is_transient_status(tried.answer->status)
                                           : is_transient(tried.answer.error());
    if (!again || attempt > session.settings().retries) {
      if (!tried.answer.ok()) return std::move(tried.answer).error().context(fmt::format("upload to {}", repository));
      return session.answer_error(*tried.answer, fmt::format("upload to {}", repository));
    }
    stale = unauthorized ? tried.authorization : "";
    upload_url.clear();  // an upload that was cut is begun anew: its stream can't be taken up in the middle
    sent(0);
    const std::string retry_after = tried.answer.ok() ? tried.answer->header("retry-after") : "";
    if (!unauthorized && !session.http().wait_for(backoff(attempt, retry_after))) {
      return errorf(ErrorKind::kConflict, "interrupted");
    }
  }
}

}  // namespace hull::store
