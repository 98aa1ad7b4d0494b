#include "engine/journal_reader.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr const char* kProgram = "/usr/bin/journalctl";

std::vector<std::string> command(const std::string& id, const std::string& socket) {
  std::vector<std::string> argv = {kProgram, "--quiet", "--no-pager", "--all", "--output=export"};
  // /run/systemd/journal.NAME/socket is the journal of a namespace (systemd-journald@NAME).
  constexpr std::string_view kNamed = "/run/systemd/journal.";
  if (socket.starts_with(kNamed)) {
    const std::string rest = socket.substr(kNamed.size());
    argv.push_back("--namespace=" + rest.substr(0, rest.find('/')));
  }
  argv.push_back("CONTAINER_ID_FULL=" + id);
  return argv;
}

int64_t seconds_of(TimePoint when) {
  return std::chrono::duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
}

/// A journalctl whose output is read here.
class Reading {
 public:
  static Result<Reading> start(std::vector<std::string> argv) {
    Reading out;
    TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
    SpawnRequest request;
    request.argv = std::move(argv);
    request.fds = {{1, pipe.write_end.get()}};
    auto child = spawn(request);
    if (!child.ok()) {
      return std::move(child).error().context("logs of the driver journald are read with journalctl");
    }
    out.child_ = std::move(*child);
    out.output_ = std::move(pipe.read_end);
    return out;
  }
  Reading() = default;
  Reading(Reading&&) = default;
  Reading& operator=(Reading&&) = delete;
  ~Reading() {
    if (!child_.pidfd) return;
    ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGKILL, nullptr, 0);
    ignore_result(wait_for(child_));
  }
  int fd() const { return output_.get(); }
  /// False at the end.
  Result<bool> read(JournalExport* entries, const JournalExport::Sink& sink) const {
    char block[64 * 1024];
    ssize_t got = -1;
    do {
      got = ::read(output_.get(), block, sizeof block);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno_error("read from journalctl");
    if (got == 0) return false;
    TRY(entries->feed(std::string_view(block, static_cast<size_t>(got)), sink));
    return true;
  }

 private:
  Child child_;
  UniqueFd output_;
};

}  // namespace

Result<void> JournalExport::take(std::string_view name, std::string_view value) {
  if (name == "MESSAGE") {
    record_.text = std::string(value);
    has_message_ = true;
  } else if (name == "PRIORITY") {
    record_.stream = value == "3" ? 2 : 1;
  } else if (name == "CONTAINER_PARTIAL_MESSAGE") {
    partial_ = value == "true";
  } else if (name == "__CURSOR") {
    next_cursor_ = std::string(value);
  } else if (name == "SYSLOG_TIMESTAMP") {
    if (const auto when = parse_rfc3339(value); when.ok()) {
      record_.when = *when;
      timed_ = true;
    }
  } else if (name == "__REALTIME_TIMESTAMP" && !timed_) {
    if (const auto us = parse_int(value, 0, int64_t{1} << 53); us.ok()) {
      record_.when = TimePoint(std::chrono::duration_cast<TimePoint::duration>(std::chrono::microseconds(*us)));
    }
  }
  return {};
}

Result<void> JournalExport::finish_entry(const Sink& sink) {
  if (!next_cursor_.empty()) cursor_ = std::move(next_cursor_);
  const bool whole = has_message_;
  if (whole && !partial_) record_.text += '\n';
  const LogRecord record = std::move(record_);
  record_ = {};
  next_cursor_.clear();
  has_message_ = partial_ = timed_ = false;
  if (whole) TRY(sink(record));
  return {};
}

Result<void> JournalExport::feed(std::string_view bytes, const Sink& sink) {
  if (skip_ > 0) {
    const uint64_t now = std::min<uint64_t>(skip_, bytes.size());
    bytes.remove_prefix(now);
    skip_ -= now;
  }
  pending_.append(bytes);
  std::string_view rest = pending_;
  for (;;) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) {
      if (rest.size() > kMostEntry) return errorf(ErrorKind::kCorrupt, "journalctl sent a line of more than 1 MiB");
      break;
    }
    const std::string_view line = rest.substr(0, end);
    if (line.empty()) {
      TRY(finish_entry(sink));
      rest.remove_prefix(1);
      continue;
    }
    if (const size_t equals = line.find('='); equals != std::string_view::npos) {
      TRY(take(line.substr(0, equals), line.substr(equals + 1)));
      rest.remove_prefix(end + 1);
      continue;
    }
    // The binary form: the length, eight bytes, little endian, and the value.
    if (rest.size() < end + 9) break;
    uint64_t length = 0;
    for (size_t i = 0; i < 8; ++i) {
      length |= static_cast<uint64_t>(static_cast<unsigned char>(rest[end + 1 + i])) << (8 * i);
    }
    const std::string_view value = rest.substr(end + 9);
    if (length > kMostEntry) {
      if (length > uint64_t{1} << 40) return errorf(ErrorKind::kCorrupt, "journalctl sent a field without an end");
      skip_ = length + 1 - std::min<uint64_t>(length + 1, value.size());
      rest = value.substr(std::min<uint64_t>(length + 1, value.size()));
      continue;
    }
    if (value.size() < length + 1) break;
    TRY(take(line, value.substr(0, length)));
    rest = value.substr(length + 1);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return {};
}

Result<void> read_journal(const std::string& id, const std::string& socket, const LogOptions& options,
                          const LogSink& sink, const std::function<bool()>& ended, int wake_fd) {
  bool past_until = false;
  const auto deliver = [&](const LogRecord& record) -> Result<void> {
    if (options.until && record.when > *options.until) {
      past_until = true;
      return {};
    }
    if (past_until || (options.since && record.when < *options.since)) return {};
    if ((record.stream == 1 && !options.stdout_lines) || (record.stream == 2 && !options.stderr_lines)) return {};
    return sink(record.stream, record.when, record.text);
  };
  std::vector<std::string> argv = command(id, socket);
  if (options.since) argv.push_back(fmt::format("--since=@{}", seconds_of(*options.since)));
  if (options.tail >= 0) argv.push_back(fmt::format("--lines={}", options.tail));
  if (options.follow) {
    argv.emplace_back("--follow");
    if (options.tail < 0) argv.emplace_back("--no-tail");
  }
  JournalExport entries;
  {
    TRY_ASSIGN(const Reading reading, Reading::start(argv));
    for (;;) {
      if (options.follow && ended()) break;
      pollfd watched[2] = {{reading.fd(), POLLIN, 0}, {wake_fd, POLLIN | POLLRDHUP, 0}};
      if (::poll(watched, options.follow && wake_fd >= 0 ? 2 : 1, -1) < 0 && errno != EINTR) {
        return errno_error("wait for journalctl");
      }
      if (watched[0].revents == 0) continue;
      TRY_ASSIGN(const bool more, reading.read(&entries, deliver));
      if (!more || past_until) return {};
    }
  }
  // The workload has ended: what the journal had not written yet when it was last asked.
  std::vector<std::string> sync = command(id, socket);
  sync.back() = "--sync";
  ignore_result(capture(std::move(sync)));
  argv = command(id, socket);
  if (!entries.cursor().empty()) {
    argv.push_back("--after-cursor=" + entries.cursor());
  } else if (options.tail >= 0) {
    argv.push_back(fmt::format("--lines={}", options.tail));
  }
  JournalExport last;
  TRY_ASSIGN(const Reading reading, Reading::start(argv));
  for (;;) {
    TRY_ASSIGN(const bool more, reading.read(&last, deliver));
    if (!more || past_until) return {};
  }
}

}  // namespace hull::engine
