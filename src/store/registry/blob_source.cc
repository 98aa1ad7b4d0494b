#include "store/registry/blob_source.h"

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "store/registry/http_answers.h"

// The reading thread makes every decision; the network thread only appends to the parts' queues (Sink) and pauses a
// request whose queue is full. A part is a stretch [begin, end) of the blob with at most one request under way.

namespace hull::store {
namespace {

constexpr size_t kChunk = 256 << 10;
constexpr int kMaxTotalFailures = 200;
/// Bytes that make a failure a fresh one: a server that cuts after each few bytes does not go on for ever.
constexpr uint64_t kProgress = 256 << 10;

struct Chunk {
  std::unique_ptr<std::byte[]> data;
  size_t begin = 0, end = 0;
};

}  // namespace

/// Under its own mutex, because transfers may outlive the BlobSource for a moment.
struct BlobSource::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<std::byte[]>> spare;
  uint64_t arrived = 0;
  bool closed = false;
  ByteCounter counter;
};

struct BlobSource::Part {
  uint64_t begin = 0, end = 0;
  uint64_t got = 0;   // bytes of [begin, end) that have arrived
  uint64_t skip = 0;  // bytes to drop first: a server that ignores Range starts at 0
  std::deque<Chunk> queue;
  size_t queued = 0;
  std::shared_ptr<Transfer> transfer;  // set while a request is under way
  bool paused = false;
  bool ranged = false;        // the request named a range
  bool whole_answer = false;  // answered 200: from the first byte on
  bool too_long = false;
  bool unauthorized = false;  // the last request was answered 401
  uint64_t generation = 0;    // of the request; a late callback of an older one is dropped
  std::optional<Result<HttpAnswer>> ended;
  std::string authorization;
  bool complete() const { return got == end - begin; }
};

class BlobSource::Sink final : public BodySink {
 public:
  Sink(std::shared_ptr<Shared> shared, std::shared_ptr<Part> part, uint64_t generation, uint64_t size)
      : shared_(std::move(shared)), part_(std::move(part)), generation_(generation), size_(size) {}

  bool on_head(const HttpAnswer& answer) override {
    const std::lock_guard guard(shared_->mutex);
    if (stale()) return false;
    const uint64_t from = part_->begin + part_->got;
    if (answer.status == 206) {
      const auto range = parse_content_range(answer.header("content-range"));
      if (!range || range->first != from || (range->total && *range->total != size_) || !part_->ranged) {
        bad_range_ = true;
        return false;
      }
    } else {
      // The whole blob, whatever was asked for: this request serves all that follows.
      part_->whole_answer = true;
      part_->skip = from;
      part_->end = size_;
    }
    part_->unauthorized = false;
    shared_->changed.notify_all();
    return true;
  }

  Take on_data(std::span<const std::byte> data) override {
    uint64_t arrived = 0;
    {
      const std::lock_guard guard(shared_->mutex);
      if (stale()) return Take::kStop;
      const uint64_t dropped = std::min<uint64_t>(part_->skip, data.size());
      if (dropped < data.size() && part_->queued >= BlobSource::tuning().buffer) {
        part_->paused = true;
        return Take::kPause;
      }
      part_->skip -= dropped;
      data = data.subspan(dropped);
      const uint64_t room = part_->end - part_->begin - part_->got;
      // More than the part wants: fine when the server sends the whole blob, else the blob is longer than declared.
      if (data.size() > room) {
        if (part_->end == size_) part_->too_long = true;
        data = data.first(room);
      }
      append(data);
      part_->got += data.size();
      shared_->arrived += data.size();
      arrived = shared_->arrived;
      shared_->changed.notify_all();
      if (part_->complete() && (part_->too_long || part_->end != size_)) return Take::kStop;
    }
    if (shared_->counter) shared_->counter(arrived);
    return Take::kTaken;
  }

  void on_end(Result<HttpAnswer> answer) override {
    const std::lock_guard guard(shared_->mutex);
    if (stale()) return;
    if (bad_range_) {
      part_->ended = errorf(ErrorKind::kUnsupported, "the registry answered with another range than was asked for");
    } else {
      part_->ended = std::move(answer);
    }
    part_->transfer.reset();
    part_->paused = false;
    shared_->changed.notify_all();
  }

 private:
  bool stale() const { return shared_->closed || part_->generation != generation_; }

  void append(std::span<const std::byte> data) {
    while (!data.empty()) {
      if (part_->queue.empty() || part_->queue.back().end == kChunk) {
        Chunk chunk;
        if (shared_->spare.empty()) {
          chunk.data.reset(new std::byte[kChunk]);
        } else {
          chunk.data = std::move(shared_->spare.back());
          shared_->spare.pop_back();
        }
        part_->queue.push_back(std::move(chunk));
      }
      Chunk& last = part_->queue.back();
      const size_t count = std::min(data.size(), kChunk - last.end);
      std::memcpy(last.data.get() + last.end, data.data(), count);
      last.end += count;
      part_->queued += count;
      data = data.subspan(count);
    }
  }

  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<Part> part_;
  const uint64_t generation_;
  const uint64_t size_;
  bool bad_range_ = false;
};

BlobSource::Tuning& BlobSource::tuning() {
  static Tuning tuning;
  return tuning;
}

BlobSource::BlobSource(std::shared_ptr<RegistrySession> session, std::string repository, oci::Descriptor descriptor,
                       ByteCounter counter, std::shared_ptr<const std::atomic<bool>> given_up)
    : session_(std::move(session)),
      repository_(std::move(repository)),
      descriptor_(std::move(descriptor)),
      counter_(std::move(counter)),
      given_up_(std::move(given_up)),
      scope_(RegistrySession::pull_scope(repository_)),
      size_(static_cast<uint64_t>(descriptor_.size)),
      shared_(std::make_shared<Shared>()) {
  shared_->counter = counter_;
}

BlobSource::~BlobSource() {
  std::unique_lock lock(shared_->mutex);
  stop_all(lock);
  shared_->closed = true;
}

void BlobSource::stop_all(std::unique_lock<std::mutex>&) {
  for (const auto& part : parts_) {
    ++part->generation;
    if (part->transfer) session_->http().cancel(part->transfer);
    part->transfer.reset();
  }
  parts_.clear();
}

Result<void> BlobSource::begin(const std::shared_ptr<Part>& part, std::unique_lock<std::mutex>& lock) {
  // A token may have to be fetched: not under the lock, the network thread needs it.
  const std::string stale = part->authorization;
  const uint64_t from = part->begin + part->got;
  lock.unlock();
  auto prepared =
      session_->prepare("GET", session_->url(repository_, "blobs/" + descriptor_.digest.str()), scope_, stale);
  lock.lock();
  if (!prepared.ok()) return std::move(prepared).error();
  HttpRequest request = std::move(prepared).value();
  part->authorization.clear();
  part->ranged = ranges_ != Ranges::kNo && (from != 0 || part->end != size_);
  if (part->ranged) request.headers.push_back(fmt::format("Range: bytes={}-{}", from, part->end - 1));
  // What arrives compressed once more would not have the blob's digest.
  request.headers.emplace_back("Accept-Encoding: identity");
  request.http1 = true;
  part->ended.reset();
  part->paused = false;
  part->whole_answer = false;
  part->skip = 0;
  ++part->generation;
  const std::string authorization = request.authorization;
  part->transfer =
      session_->http().start(std::move(request), std::make_shared<Sink>(shared_, part, part->generation, size_));
  part->authorization = authorization;
  return {};
}

Result<void> BlobSource::fill(std::unique_lock<std::mutex>& lock) {
  const Tuning& tune = tuning();
  const bool split = size_ >= tune.split_from && ranges_ != Ranges::kNo && session_->settings().parallel_ranges > 1;
  while (next_begin_ < size_) {
    // Whether the registry serves ranges is known after the first answer.
    const size_t most = !split                    ? 1
                        : ranges_ == Ranges::kYes ? static_cast<size_t>(session_->settings().parallel_ranges)
                                                  : 1;
    if (parts_.size() >= most) return {};
    auto part = std::make_shared<Part>();
    part->begin = next_begin_;
    part->end = split ? std::min(size_, next_begin_ + tune.segment) : size_;
    next_begin_ = part->end;
    parts_.push_back(part);
    TRY(begin(part, lock));
  }
  return {};
}

void BlobSource::keep_parts(size_t count) {
  while (parts_.size() > count) {
    const auto& last = parts_.back();
    ++last->generation;
    if (last->transfer) session_->http().cancel(last->transfer);
    shared_->arrived -= last->got;
    parts_.pop_back();
  }
  parts_.back()->end = size_;
  next_begin_ = size_;
}

void BlobSource::drop_behind_whole_answer() {
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!parts_[i]->whole_answer || !parts_[i]->ranged) continue;
    ranges_ = Ranges::kNo;
    keep_parts(i + 1);
    return;
  }
}

Result<void> BlobSource::handle_failure(const std::shared_ptr<Part>& part, std::unique_lock<std::mutex>& lock) {
  Result<HttpAnswer> ended = *std::move(part->ended);
  part->ended.reset();
  const std::string what = fmt::format("blob {} of {}", descriptor_.digest.short_hex(), repository_);
  if (position_ >= position_at_failure_ + kProgress) failures_ = 0;
  position_at_failure_ = position_;
  ++failures_;
  ++total_failures_;

  std::string retry_after;
  std::optional<Error> problem;
  bool again = false;
  if (!ended.ok()) {
    if (ended.error().kind() == ErrorKind::kUnsupported) {
      // Nonsense for a range: from now on whole requests, and what is there already is skipped.
      ranges_ = Ranges::kNo;
      again = true;
    } else {
      again = is_transient(ended.error());
    }
    problem = std::move(ended).error();
  } else if (ended->status == 401) {
    // The token has run out on the way, or this is the first request. Refused twice in a row is final.
    again = !part->unauthorized && session_->note_challenge(*ended);
    part->unauthorized = true;
    problem = session_->answer_error(*ended, what);
  } else if (ended->status >= 200 && ended->status < 300) {
    again = true;
    problem = errorf(ErrorKind::kUnavailable, "registry {}: {}: it ended after {} of {} bytes",
                     session_->endpoint().registry, what, part->begin + part->got, size_);
    part->authorization.clear();
  } else {
    retry_after = ended->header("retry-after");
    again = is_transient_status(ended->status);
    problem = session_->answer_error(*ended, what);
    if (ended->status == 416) {
      problem = errorf(ErrorKind::kCorrupt, "registry {}: {}: it is shorter than the {} bytes that the manifest says",
                       session_->endpoint().registry, what, size_);
    }
  }
  const bool unauthorized = ended.ok() && ended->status == 401;
  if (!unauthorized) part->authorization.clear();  // only a refused token is stale
  if (!again || failures_ > session_->settings().retries + 1 || total_failures_ > kMaxTotalFailures) {
    return *std::move(problem);
  }
  ++resumed_;
  if (ranges_ == Ranges::kNo) keep_parts(1);  // one request from here to the end
  // The first new try comes at once: most cuts are single ones.
  if (failures_ > 1 && !unauthorized) {
    lock.unlock();
    const bool waited = session_->http().wait_for(backoff(failures_ - 1, retry_after));
    lock.lock();
    if (!waited) return errorf(ErrorKind::kConflict, "interrupted");
  }
  if (std::find(parts_.begin(), parts_.end(), part) == parts_.end()) return {};
  return begin(part, lock);
}

Result<size_t> BlobSource::read(std::span<std::byte> into) {
  if (into.empty()) return size_t{0};
  std::unique_lock lock(shared_->mutex);
  while (true) {
    if (given_up_ != nullptr && *given_up_) return errorf(ErrorKind::kConflict, "abandoned");
    if (position_ == size_) {
      if (!parts_.empty() && parts_.front()->too_long) {
        return errorf(ErrorKind::kCorrupt,
                      "registry {}: blob {} of {} is longer than the {} bytes that the manifest says",
                      session_->endpoint().registry, descriptor_.digest.short_hex(), repository_, size_);
      }
      // The last request may still be about to tell that there is more.
      if (!parts_.empty() && parts_.front()->transfer && !parts_.front()->ended) {
        shared_->changed.wait(lock);
        continue;
      }
      return size_t{0};
    }
    drop_behind_whole_answer();
    TRY(fill(lock));
    const std::shared_ptr<Part> head = parts_.front();
    if (!head->queue.empty()) {
      size_t given = 0;
      while (given < into.size() && !head->queue.empty()) {
        Chunk& chunk = head->queue.front();
        const size_t count = std::min(into.size() - given, chunk.end - chunk.begin);
        std::memcpy(into.data() + given, chunk.data.get() + chunk.begin, count);
        chunk.begin += count;
        given += count;
        if (chunk.begin == chunk.end) {
          if (shared_->spare.size() < 64) shared_->spare.push_back(std::move(chunk.data));
          head->queue.pop_front();
        }
      }
      head->queued -= given;
      position_ += given;
      if (head->paused && head->queued <= tuning().buffer / 2 && head->transfer) {
        head->paused = false;
        session_->http().resume(head->transfer);
      }
      return given;
    }
    if (head->complete() && position_ != size_) {
      parts_.pop_front();
      continue;
    }
    // The first answer tells whether ranges are served.
    if (ranges_ == Ranges::kUnknown && head->got > 0 && head->ranged && !head->whole_answer) {
      ranges_ = Ranges::kYes;
      continue;
    }
    if (head->ended) {
      TRY(handle_failure(head, lock));
      continue;
    }
    shared_->changed.wait(lock);
  }
}

}  // namespace hull::store
