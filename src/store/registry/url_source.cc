#include "store/registry/url_source.h"

#include <algorithm>
#include <cstring>

#include "base/error_format.h"

namespace hull::store {
namespace {
constexpr size_t kMaxQueued = 4 << 20;
}  // namespace

class UrlSource::Sink final : public BodySink {
 public:
  bool on_head(const HttpAnswer&) override { return true; }
  Take on_data(std::span<const std::byte> data) override {
    const std::lock_guard guard(mutex);
    if (closed) return Take::kStop;
    if (queue.size() - used > kMaxQueued) {
      paused = true;
      return Take::kPause;
    }
    if (used > kMaxQueued) {
      queue.erase(queue.begin(), queue.begin() + static_cast<ptrdiff_t>(used));
      used = 0;
    }
    queue.insert(queue.end(), data.begin(), data.end());
    changed.notify_all();
    return Take::kTaken;
  }
  void on_end(Result<HttpAnswer> answer) override {
    const std::lock_guard guard(mutex);
    outcome = std::move(answer);
    changed.notify_all();
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::byte> queue;
  size_t used = 0;
  bool paused = false, closed = false;
  std::optional<Result<HttpAnswer>> outcome;
};

UrlSource::UrlSource(HttpEngine& http, std::string url, std::chrono::milliseconds stall_timeout)
    : http_(http), url_(std::move(url)), stall_timeout_(stall_timeout), sink_(std::make_shared<Sink>()) {}

UrlSource::~UrlSource() {
  {
    const std::lock_guard guard(sink_->mutex);
    sink_->closed = true;
  }
  if (transfer_) http_.cancel(transfer_);
}

Result<size_t> UrlSource::read(std::span<std::byte> into) {
  if (!transfer_) {
    HttpRequest request;
    TRY_ASSIGN(request.url, resolve_url("", url_));
    request.http1 = true;
    request.stall_timeout = stall_timeout_;
    transfer_ = http_.start(std::move(request), sink_);
  }
  std::unique_lock lock(sink_->mutex);
  sink_->changed.wait(lock, [this] { return sink_->queue.size() > sink_->used || sink_->outcome; });
  const size_t count = std::min(into.size(), sink_->queue.size() - sink_->used);
  if (count > 0) {
    std::memcpy(into.data(), sink_->queue.data() + sink_->used, count);
    sink_->used += count;
    if (sink_->used == sink_->queue.size()) {
      sink_->queue.clear();
      sink_->used = 0;
    }
    if (sink_->paused && sink_->queue.size() - sink_->used < kMaxQueued / 2) {
      sink_->paused = false;
      http_.resume(transfer_);
    }
    return count;
  }
  if (!sink_->outcome->ok()) return sink_->outcome->error();
  const int status = sink_->outcome->value().status;
  if (status < 200 || status > 299) {
    return errorf(status == 404 ? ErrorKind::kNotFound : ErrorKind::kUnavailable, "GET {}: it answered {}",
                  url_for_people(url_), status);
  }
  return size_t{0};
}

}  // namespace hull::store
