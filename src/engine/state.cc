#include "engine/state.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "base/error_format.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// The next blank-separated number; nothing when there is none.
std::optional<int64_t> next_number(std::string_view& text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

struct flock whole_file(short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

std::string read_small(const std::string& path) {
  auto text = sys::read_file(path, 64 * 1024);
  return text.ok() ? std::move(text).value() : std::string();
}

}  // namespace

std::optional<ExitRecord> parse_exit(std::string_view text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view line = text.substr(0, end);
  const auto code = next_number(line), signal = next_number(line), oom = next_number(line),
             finished = next_number(line), started = next_number(line);
  if (!started) return std::nullopt;
  ExitRecord record;
  record.code = static_cast<int>(*code);
  record.signal = static_cast<int>(*signal);
  record.oom_killed = *oom != 0;
  record.finished_ns = *finished;
  record.started_ns = *started;
  record.error = std::string(text.substr(end + 1));
  return record;
}

Result<void> write_exit(const Paths& paths, std::string_view id, const ExitRecord& record) {
  const std::string text = fmt::format("{} {} {} {} {}\n{}", record.code, record.signal, record.oom_killed ? 1 : 0,
                                       record.finished_ns, record.started_ns, record.error);
  return sys::replace_file(paths.workload(id) + "/exit", text, 0600, false);
}

Result<void> write_started(const Paths& paths, std::string_view id, int pid, int64_t started_ns) {
  return sys::replace_file(paths.run_of(id) + "/state",
                           fmt::format("{} {} {}\n", pid, process_start_time(pid), started_ns), 0600, false);
}

Result<void> write_run_mark(const Paths& paths, std::string_view id, int64_t started_ns) {
  TRY_ASSIGN(const UniqueFd fd,
             sys::open(paths.workload(id) + "/running", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  return sys::write_all(fd.get(), fmt::format("{}\n", started_ns));
}

void clear_run_mark(const Paths& paths, std::string_view id) { ::unlink((paths.workload(id) + "/running").c_str()); }

std::optional<RestartRecord> read_restart(const Paths& paths, std::string_view id) {
  const std::string text = read_small(paths.run_of(id) + "/restart");
  std::string_view rest = text;
  const auto started = next_number(rest), count = next_number(rest), delay = next_number(rest);
  if (!delay) return std::nullopt;
  return RestartRecord{*started, static_cast<int>(*count), *delay};
}

Result<void> mark_stopped(const Paths& paths, std::string_view id, bool for_good) {
  const std::string folder = for_good ? paths.workload(id) : paths.run_of(id);
  TRY(sys::open(folder + "/stopped", O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  return {};
}

bool was_stopped(const Paths& paths, std::string_view id) {
  return sys::exists(paths.workload(id) + "/stopped") || sys::exists(paths.run_of(id) + "/stopped");
}

int restart_count(const Paths& paths, std::string_view id) {
  const std::string text = read_small(paths.workload(id) + "/restarts");
  std::string_view rest = text;
  return static_cast<int>(next_number(rest).value_or(0));
}

Result<void> set_restart_count(const Paths& paths, std::string_view id, int count) {
  return sys::replace_file(paths.workload(id) + "/restarts", fmt::format("{}\n", count), 0600, false);
}

void forget_restarts(const Paths& paths, std::string_view id) {
  ::unlink((paths.workload(id) + "/stopped").c_str());
  ::unlink((paths.workload(id) + "/restarts").c_str());
}

Result<UniqueFd> take_monitor_lock(const Paths& paths, std::string_view id) {
  TRY_ASSIGN(UniqueFd fd, sys::open(paths.run_of(id) + "/lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  // Of the open file, not of the process: it goes to the monitor with the descriptor.
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES) return errorf(ErrorKind::kConflict, "container {} has a monitor", id);
    return errnof("lock the run of {}", id);
  }
  return fd;
}

bool monitor_alive(const Paths& paths, std::string_view id) {
  const UniqueFd fd(::open((paths.run_of(id) + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return false;
  struct flock lock = whole_file(F_WRLCK);
  return ::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

namespace {

/// Between the clean-up of one run and the start of the next the change says what it is about (services.cc).
bool restart_under_way(const Paths& paths, std::string_view id) {
  const UniqueFd fd(::open(paths.change(id).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  char text[8];
  return fd && ::read(fd.get(), text, sizeof text) == sizeof text && std::string_view(text, sizeof text) == "restart\n";
}

}  // namespace

RunState read_state(const Paths& paths, std::string_view id) {
  RunState state;
  const std::string run = paths.run_of(id);
  if (!sys::exists(run)) {
    state.exit = parse_exit(read_small(paths.workload(id) + "/exit"));
    const std::string mark = read_small(paths.workload(id) + "/running");
    if (!mark.empty()) {
      // It ran, and this is another boot: the run folder is gone with everything that was in it.
      std::string_view rest = mark;
      ExitRecord lost;
      lost.started_ns = next_number(rest).value_or(0);
      lost.finished_ns = lost.started_ns;
      lost.code = 255;
      lost.error = "the host went down while the container ran";
      state.exit = lost;
      state.needs_cleanup = true;
    }
    if (state.exit) {
      state.status = !state.needs_cleanup && restart_under_way(paths, id) ? Status::kRestarting : Status::kExited;
      state.started_ns = state.exit->started_ns;
    }
    return state;
  }
  const std::string started = read_small(run + "/state");
  std::string_view rest = started;
  const auto pid = next_number(rest), start_time = next_number(rest), started_ns = next_number(rest);
  if (started_ns) {
    state.pid = static_cast<int>(*pid);
    state.start_time = static_cast<uint64_t>(*start_time);
    state.started_ns = *started_ns;
  }
  // The lock before the record: a monitor that ends in between has written the record first.
  const bool alive = monitor_alive(paths, id);
  state.exit = parse_exit(read_small(run + "/exit"));
  if (state.exit) {
    if (state.exit->started_ns == 0) state.exit->started_ns = state.started_ns;
    state.started_ns = state.exit->started_ns;
    state.pid = 0;
    const bool restarts = ::access((run + "/restart").c_str(), F_OK) == 0;
    state.status = restarts && alive ? Status::kRestarting : Status::kExited;
    state.needs_cleanup = state.status == Status::kExited;
    state.restart_lost = restarts && !alive;
    return state;
  }
  if (!alive) {
    // Cleaned up while it was read here: what the run left is in the workload's folder now.
    if (!sys::exists(run)) return read_state(paths, id);
    state.needs_cleanup = true;
    state.orphaned = true;
    state.status = started_ns ? Status::kDead : Status::kCreated;
    return state;
  }
  if (!started_ns) {
    state.exit = parse_exit(read_small(paths.workload(id) + "/exit"));
    if (state.exit && restart_under_way(paths, id)) state.status = Status::kRestarting;
    return state;  // being started
  }
  state.status = ::access((run + "/paused").c_str(), F_OK) == 0 ? Status::kPaused : Status::kRunning;
  return state;
}

}  // namespace hull::engine
