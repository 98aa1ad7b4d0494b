#include "engine/log_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/process.h"
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
  Reader(const LogOptions& options, const LogSink& sink, bool local) : options_(options), sink_(sink), local_(local) {}

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
    if (!(local_ ? parse_local_line(line, &record) : parse_log_line(line, &record))) return {};
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
  bool local_;
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

/// What a log file begins with: its first record has a time of nanoseconds, so it names the file, compressed or not.
std::string head_of(int fd) {
  std::string head(200, 0);
  const ssize_t got = ::pread(fd, head.data(), head.size(), 0);
  head.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return head;
}

/// A compressed file, unpacked into memory: what is rotated is bounded by max-size.
Result<UniqueFd> unpack(const LogFiles& files, const std::string& path) {
  TRY_ASSIGN(const UniqueFd packed, sys::open(path, O_RDONLY | O_NOFOLLOW));
  UniqueFd plain(::memfd_create("hull-log", MFD_CLOEXEC));
  if (!plain) return errno_error("memfd_create");
  SpawnRequest request;
  request.argv = {files.decompress, "decompress-log"};
  request.fds = {{0, packed.get()}, {1, plain.get()}};
  TRY_ASSIGN(Child child, spawn(request));
  TRY_ASSIGN(const int code, wait_for(child));
  if (code != 0) return errorf(ErrorKind::kCorrupt, "unpack {}: {} ended with {}", path, files.decompress, code);
  return plain;
}

/// The file of that age (0: the current one), compressed or not. kNotFound when there is none.
Result<UniqueFd> open_file(const LogFiles& files, int age) {
  const std::string name = age == 0 ? files.path : fmt::format("{}.{}", files.path, age);
  auto file = sys::open(name, O_RDONLY | O_NOFOLLOW);
  if (file.ok() || file.error().error_number() != ENOENT || age == 0 || files.decompress.empty()) return file;
  if (!sys::exists(name + ".gz")) return file;
  return unpack(files, name + ".gz");
}

constexpr int kMostFiles = 1000;

/// Shows the files to `visit`, the newest first, until it answers false or there are no more. A rotation that runs
/// meanwhile renames from the oldest to the newest: a file may be shown twice, none is missed, and one name at a time
/// is missing, so the files end where two are.
Result<void> for_each_file(const LogFiles& files, const std::function<bool(UniqueFd)>& visit) {
  int missing = 0;
  for (int age = 0; age <= kMostFiles && missing < 2; ++age) {
    auto file = open_file(files, age);
    if (file.ok()) {
      missing = 0;
      if (!visit(std::move(*file))) break;
    } else if (file.error().error_number() == ENOENT) {
      ++missing;
    } else {
      return std::move(file).error();
    }
  }
  return {};
}

/// The file that follows the one that `current` reads, however often was rotated meanwhile: looked for from the newest
/// back. When `current` itself was rotated away, the oldest one there is.
Result<UniqueFd> open_next(const LogFiles& files, int current) {
  const ino_t inode = inode_of(current);
  const std::string head = head_of(current);
  UniqueFd newer;
  TRY(for_each_file(files, [&](UniqueFd file) {
    if (inode_of(file.get()) == inode || (!head.empty() && head_of(file.get()) == head)) return false;
    newer = std::move(file);
    return true;
  }));
  return newer;
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

bool parse_local_line(std::string_view line, LogRecord* record) {
  const size_t first = line.find(' ');
  if (first == std::string_view::npos || line.size() < first + 10) return false;
  const std::string_view stream = line.substr(first + 1, 6), kind = line.substr(first + 7, 3);
  if ((stream != "stdout" && stream != "stderr") || (kind != " F " && kind != " P ")) return false;
  const auto when = parse_rfc3339(line.substr(0, first));
  if (!when.ok()) return false;
  record->when = *when;
  record->stream = stream == "stderr" ? 2 : 1;
  record->text = std::string(line.substr(first + 10));
  if (kind == " F ") record->text += '\n';
  return true;
}

Result<void> read_logs(const LogFiles& names, const LogOptions& options, const LogSink& sink,
                       const std::function<bool()>& ended, int wake_fd) {
  std::vector<UniqueFd> files;
  const std::string& path = names.path;
  TRY(for_each_file(names, [&](UniqueFd file) {
    const ino_t inode = inode_of(file.get());
    const std::string head = head_of(file.get());
    const auto seen = [&](const UniqueFd& f) {
      return inode_of(f.get()) == inode || (!head.empty() && head_of(f.get()) == head);
    };
    if (std::none_of(files.begin(), files.end(), seen)) files.push_back(std::move(file));
    return true;
  }));
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
  Reader reader(options, sink, names.local);
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
    // Rotated: what is left of the old file first, then the one that followed it.
    if (!current) {
      auto next = sys::open(path, O_RDONLY | O_NOFOLLOW);
      if (next.ok()) {
        current = std::move(*next);
        continue;
      }
    } else if (const ino_t newest = inode_of(path); newest != 0 && newest != inode_of(current.get())) {
      TRY_ASSIGN(UniqueFd next, open_next(names, current.get()));
      if (next) {
        TRY(reader.drain(current.get()));
        reader.new_file();
        current = std::move(next);
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
