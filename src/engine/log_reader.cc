#include "engine/log_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error_format.h"
#include "base/units.h"
#include "oci/json_reader.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr size_t kBlock = 64 * 1024;
/// A record is at most 16 KiB of output, six bytes for each, and its frame.
constexpr size_t kMaxLine = 128 * 1024;

/// Where the last `lines` whole lines of a file begin; *found is how many there are, at most `lines`. Only the end of
/// the file is read.
Result<off_t> tail_offset(int fd, off_t size, int64_t lines, int64_t* found) {
  *found = 0;
  if (lines <= 0) return size;
  std::string block(kBlock, 0);
  off_t at = size;
  while (at > 0) {
    const auto want = static_cast<size_t>(std::min<off_t>(at, static_cast<off_t>(kBlock)));
    at -= static_cast<off_t>(want);
    const ssize_t got = ::pread(fd, block.data(), want, at);
    if (got != static_cast<ssize_t>(want)) return errno_error("read the log");
    for (size_t i = want; i-- > 0;) {
      if (block[i] != '\n' || at + static_cast<off_t>(i) + 1 == size) continue;
      if (++*found == lines) return at + static_cast<off_t>(i) + 1;
    }
  }
  if (size > 0) ++*found;
  return off_t{0};
}

class Reader {
 public:
  Reader(const LogOptions& options, const LogSink& sink) : options_(options), sink_(sink) {}

  /// Delivers whole lines from the current offset to the end.
  Result<void> drain(int fd) {
    char block[kBlock];
    for (;;) {
      const ssize_t got = ::read(fd, block, sizeof block);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno_error("read the log");
      if (got == 0) return {};
      pending_.append(block, static_cast<size_t>(got));
      size_t at = 0;
      for (size_t end = 0; (end = pending_.find('\n', at)) != std::string::npos; at = end + 1) {
        TRY(deliver(std::string_view(pending_).substr(at, end - at)));
        if (past_until_) return {};
      }
      pending_.erase(0, at);
      if (pending_.size() > kMaxLine) pending_.clear();  // no record is that long
    }
  }
  void new_file() { pending_.clear(); }
  bool past_until() const { return past_until_; }

 private:
  Result<void> deliver(std::string_view line) {
    LogRecord record;
    if (!parse_log_line(line, &record)) return {};
    if (options_.until && record.when > *options_.until) {
      past_until_ = true;
      return {};
    }
    if (options_.since && record.when < *options_.since) return {};
    if ((record.stream == 1 && !options_.stdout_lines) || (record.stream == 2 && !options_.stderr_lines)) return {};
    return sink_(record.stream, record.when, record.text);
  }

  const LogOptions& options_;
  const LogSink& sink_;
  std::string pending_;
  bool past_until_ = false;
};

ino_t inode_of(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

ino_t inode_of(int fd) {
  struct stat info{};
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

}  // namespace

bool parse_log_line(std::string_view line, LogRecord* record) {
  std::string stream, time;
  bool have_log = false;
  oci::JsonReader r(line);
  r.object([&](std::string_view key) {
    if (key == "log") {
      have_log = true;
      return r.value(record->text);
    }
    if (key == "stream") return r.value(stream);
    if (key == "time") return r.value(time);
    return false;
  });
  if (!r.finish().ok() || !have_log) return false;
  record->stream = stream == "stderr" ? 2 : 1;
  const auto when = parse_rfc3339(time);
  if (!when.ok()) return false;
  record->when = *when;
  return true;
}

Result<void> read_logs(const std::string& path, const LogOptions& options, const LogSink& sink,
                       const std::function<bool()>& ended, int wake_fd) {
  // Opened newest first: a rotation in between makes us see a file twice at most, never miss one, and inode numbers
  // tell.
  std::vector<UniqueFd> files;
  for (int i = 0; i <= 1000; ++i) {
    auto file = sys::open(i == 0 ? path : fmt::format("{}.{}", path, i), O_RDONLY | O_NOFOLLOW);
    if (!file.ok()) {
      if (file.error().error_number() != ENOENT) return std::move(file).error();
      if (i == 0) continue;
      break;
    }
    const ino_t inode = inode_of(file->get());
    if (std::any_of(files.begin(), files.end(), [&](const UniqueFd& f) { return inode_of(f.get()) == inode; }))
      continue;
    files.push_back(std::move(*file));
  }
  // --tail: how much of which file, from the newest back.
  std::vector<off_t> starts(files.size(), 0);
  if (options.tail >= 0) {
    int64_t left = options.tail;
    for (size_t i = 0; i < files.size(); ++i) {
      struct stat info{};
      if (::fstat(files[i].get(), &info) != 0) return errno_error("stat the log");
      int64_t found = 0;
      TRY_ASSIGN(starts[i], tail_offset(files[i].get(), info.st_size, left, &found));
      left -= found;
    }
  }
  UniqueFd watch;
  if (options.follow) {
    watch.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    const std::string folder = path.substr(0, path.rfind('/'));
    if (!watch ||
        ::inotify_add_watch(watch.get(), folder.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF) < 0) {
      return errnof("watch {}", folder);
    }
  }
  Reader reader(options, sink);
  for (size_t i = files.size(); i-- > 0;) {
    if (::lseek(files[i].get(), starts[i], SEEK_SET) < 0) return errno_error("seek in the log");
    reader.new_file();
    TRY(reader.drain(files[i].get()));
    if (reader.past_until()) return {};
  }
  if (!options.follow) return {};
  UniqueFd current;
  if (!files.empty()) current = std::move(files.front());
  for (;;) {
    // Asked before reading: what was written before the end is then read for certain.
    const bool last = ended();
    if (current) TRY(reader.drain(current.get()));
    if (reader.past_until()) return {};
    // Rotated: what is left of the old file first, then the new one.
    if (!current || inode_of(path) != inode_of(current.get())) {
      auto next = sys::open(path, O_RDONLY | O_NOFOLLOW);
      if (next.ok()) {
        if (current) TRY(reader.drain(current.get()));
        reader.new_file();
        current = std::move(*next);
        continue;
      }
    }
    if (last) return {};
    pollfd watched[2] = {{watch.get(), POLLIN, 0}, {wake_fd, POLLIN | POLLRDHUP, 0}};
    if (::poll(watched, wake_fd >= 0 ? 2 : 1, -1) < 0 && errno != EINTR) return errno_error("wait for the log");
    char events[8192];
    while (::read(watch.get(), events, sizeof events) > 0) {
    }
  }
}

}  // namespace hull::engine
