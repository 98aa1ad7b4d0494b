// Reading what is on record, and following what is written.
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/error_format.h"
#include "engine/events.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

int64_t ns_of(std::chrono::system_clock::time_point when) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
}

/// One file, read from where the last call stopped, whole lines only.
class LineReader {
 public:
  explicit LineReader(UniqueFd fd) : fd_(std::move(fd)) {}
  int fd() const { return fd_.get(); }
  void skip_to_end() { ::lseek(fd_.get(), 0, SEEK_END); }

  template <typename F>
  Result<void> drain(F&& on_line) {
    char buffer[64 * 1024];
    for (;;) {
      const ssize_t got = ::read(fd_.get(), buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno_error("read the events");
      if (got == 0) return {};
      rest_.append(buffer, static_cast<size_t>(got));
      size_t at = 0;
      for (size_t end = 0; (end = rest_.find('\n', at)) != std::string::npos; at = end + 1) {
        TRY(on_line(std::string_view(rest_).substr(at, end - at)));
      }
      rest_.erase(0, at);
      if (rest_.size() > 2 * EventLog::kLineLimit) rest_.clear();  // no line of ours
    }
  }

 private:
  UniqueFd fd_;
  std::string rest_;
};

struct stat stat_of(int fd) {
  struct stat info{};
  ::fstat(fd, &info);
  return info;
}
bool same(const struct stat& a, const struct stat& b) { return a.st_ino == b.st_ino && a.st_dev == b.st_dev; }

UniqueFd open_file(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
}

}  // namespace

Result<void> EventLog::read(const EventFilter& filter, const EventSink& sink) const {
  TRY(check_event_filters(filter.filters));
  const int64_t since_ns = filter.since ? ns_of(*filter.since) : 0;
  const int64_t until_ns = filter.until ? ns_of(*filter.until) : 0;
  if (since_ns > 0 && until_ns > 0 && since_ns > until_ns) {
    return errorf(ErrorKind::kInvalid, "`since` time cannot be after `until` time");
  }
  const bool past = filter.since.has_value() || filter.until.has_value();
  const auto take = [&](std::string_view line) -> Result<void> {
    auto event = parse_event(line);
    if (!event.ok()) return {};  // cut off by a full disk or a power cut
    if (event->time_ns < since_ns || (until_ns > 0 && event->time_ns > until_ns)) return {};
    return matches(*event, filter.filters) ? sink(*event) : Result<void>();
  };

  // Watched before it is read, so that nothing falls between.
  TRY(sys::make_dirs(folder_));
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch || ::inotify_add_watch(watch.get(), folder_.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
    return errnof("watch {}", folder_);
  }
  std::optional<LineReader> now;
  if (UniqueFd fd = open_file(current()); fd) now.emplace(std::move(fd));
  if (past) {
    UniqueFd old = open_file(previous());
    if (old && !(now && same(stat_of(now->fd()), stat_of(old.get())))) TRY(LineReader(std::move(old)).drain(take));
    if (now) TRY(now->drain(take));
  } else if (now) {
    now->skip_to_end();
  }
  for (;;) {
    int wait_ms = -1;
    if (until_ns > 0) {
      const int64_t left_ns = until_ns - now_ns();
      if (left_ns <= 0) return {};
      wait_ms = static_cast<int>(std::min<int64_t>(left_ns / 1'000'000 + 1, 3'600'000));
    }
    if (!filter.follow) return {};
    pollfd watched[2] = {{watch.get(), POLLIN, 0}, {filter.stop_fd, POLLIN | POLLRDHUP, 0}};
    if (::poll(watched, 2, wait_ms) < 0 && errno != EINTR) return errno_error("wait for events");
    if (watched[1].revents != 0) return {};
    char drained[4096];
    while (::read(watch.get(), drained, sizeof drained) > 0) {
    }
    if (now) TRY(now->drain(take));
    UniqueFd fresh = open_file(current());
    if (!fresh || (now && same(stat_of(now->fd()), stat_of(fresh.get())))) continue;
    // Rotated: what was written before that is drained now, then the one between, if it went by unseen.
    if (now) {
      TRY(now->drain(take));
      UniqueFd old = open_file(previous());
      if (old && !same(stat_of(now->fd()), stat_of(old.get()))) TRY(LineReader(std::move(old)).drain(take));
    }
    now.emplace(std::move(fresh));
    TRY(now->drain(take));
  }
}

}  // namespace hull::engine
