// Processes of a group: list, freeze, kill; and the group's end.

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "isolation/cgroup.h"
#include "isolation/cgroup_files.h"
#include "isolation/cgroup_systemd.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::isolation {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Folder = Cgroup::Folder;
using cgroup_files::split;
using cgroup_files::trimmed;
using cgroup_files::try_write;

constexpr int kMaxDepth = 64;

int remaining_ms(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
}

/// Waits for what gives no event: 1 ms at first, at most 32 ms, never past the deadline.
class Backoff {
 public:
  explicit Backoff(Clock::time_point deadline) : deadline_(deadline) {}
  /// False when the time is over.
  bool wait() {
    const int left = remaining_ms(deadline_);
    if (left == 0) return false;
    ::poll(nullptr, 0, std::min(left, step_ms_));
    step_ms_ = std::min(step_ms_ * 2, kMaxStepMs);
    return true;
  }

 private:
  static constexpr int kMaxStepMs = 32;
  Clock::time_point deadline_;
  int step_ms_ = 1;
};

/// cgroup.events of a v2 group: "populated 1\nfrozen 0\n", with POLLPRI on each change.
class Events {
 public:
  static Result<Events> open(const Folder& folder) {
    TRY_ASSIGN(const int dir, folder.dir_fd());
    TRY_ASSIGN(UniqueFd fd, sys::open_at(dir, "cgroup.events", O_RDONLY));
    return Events(std::move(fd));
  }
  std::optional<uint64_t> get(std::string_view key) const {
    char buffer[256];
    const ssize_t count = ::pread(fd_.get(), buffer, sizeof buffer, 0);
    if (count < 0) return std::nullopt;
    for (const auto& [name, value] : cgroup_files::key_values({buffer, static_cast<size_t>(count)})) {
      if (name == key) return value;
    }
    return std::nullopt;
  }
  /// Until `key` has `value` (the group being gone counts too); false when the time is over.
  bool wait_for(std::string_view key, uint64_t value, Clock::time_point deadline) const {
    for (;;) {
      const std::optional<uint64_t> now = get(key);
      if (!now || *now == value) return true;
      const int left = remaining_ms(deadline);
      if (left == 0) return false;
      pollfd entry = {.fd = fd_.get(), .events = POLLPRI, .revents = 0};
      ::poll(&entry, 1, left);
    }
  }

 private:
  explicit Events(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

void collect(int dir_fd, int depth, std::vector<pid_t>& out) {
  const Result<std::string> text = sys::read_file_at(dir_fd, "cgroup.procs");
  // A threaded v2 group has no list of its own (EOPNOTSUPP); its processes stand in the domain group above.
  if (text.ok()) {
    for (const std::string_view line : split(*text, "\n")) {
      const std::optional<uint64_t> pid = cgroup_files::to_number(line);
      // 0 is a process outside this pid namespace.
      if (pid && *pid != 0 && *pid <= INT32_MAX) out.push_back(static_cast<pid_t>(*pid));
    }
  }
  if (depth == kMaxDepth) return;
  for (const std::string& name : cgroup_files::sub_folders(dir_fd)) {
    const UniqueFd sub(::openat(dir_fd, name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (sub) collect(sub.get(), depth + 1, out);
  }
}

/// Folders that show every process: the v2 one, and one v1 folder beside it.
std::vector<const Folder*> witnesses(const std::vector<Folder>& folders) {
  std::vector<const Folder*> out;
  const Folder* v1 = nullptr;
  for (const Folder& folder : folders) {
    if (folder.version == 2) out.push_back(&folder);
    if (folder.version == 1 && (v1 == nullptr || folder.has("freezer"))) v1 = &folder;
  }
  if (v1 != nullptr) out.push_back(v1);
  return out;
}

constexpr milliseconds kUsualFreeze{50};   // after which the cause of a longer one is looked for
constexpr milliseconds kFreezeLimit{500};  // of one try to freeze what is to be killed

Result<void> freeze_v1(const Folder& folder, milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  Backoff backoff(deadline);
  for (int attempt = 1;; ++attempt) {
    TRY(cgroup_files::write(folder, "freezer.state", "FROZEN", "pause"));
    TRY_ASSIGN(const std::string state, cgroup_files::read(folder, "freezer.state"));
    if (trimmed(state) == "FROZEN") return {};
    // Processes that are born while the others stop keep it in FREEZING; the v1 freezer wants to be asked again, and
    // now and then to start afresh.
    constexpr int kAttemptsBeforeThaw = 50;
    if (attempt % kAttemptsBeforeThaw == 0) try_write(folder, "freezer.state", "THAWED");
    if (attempt > 3 && !backoff.wait()) {
      // Half frozen is the worst of all states.
      try_write(folder, "freezer.state", "THAWED");
      return errorf(ErrorKind::kTimeout, "pause: the processes in {} did not stop within {} ms", folder.full_path(),
                    limit.count());
    }
  }
}

/// The root of the hierarchy, or the highest group of it in sight.
UniqueFd root_of(const Folder& folder) {
  const Result<int> dir = folder.dir_fd();
  if (!dir.ok()) return UniqueFd();
  UniqueFd highest;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    UniqueFd above(::openat(highest ? highest.get() : *dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct statfs info{};
    if (!above || ::fstatfs(above.get(), &info) != 0 || info.f_type != CGROUP2_SUPER_MAGIC) break;
    highest = std::move(above);
  }
  return highest;
}

/// A thread of the kernel that works for a process inside is in its group, yet never freezes: the group would stay
/// "frozen 0" for ever. KVM has one for each machine (kvm-nx-lpage-recovery, until Linux 6.14). They go to the root,
/// where kernel threads are.
void release_kernel_threads(const Folder& folder, const std::vector<pid_t>& pids) {
  const UniqueFd root = root_of(folder);
  if (!root) return;
  for (const pid_t pid : pids) {
    const auto stat = sys::process_stat(pid);
    if (!stat || !stat->kernel_thread) continue;
    const UniqueFd procs(::openat(root.get(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
    if (procs) ignore_result(sys::write_all(procs.get(), std::to_string(pid)));
  }
}

/// Removes a group with all below it; EBUSY when a process is in one of them.
int remove_below(int parent_fd, const std::string& name, int depth) {
  if (::unlinkat(parent_fd, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
  if (errno != EBUSY && errno != ENOTEMPTY) return errno;
  int result = EBUSY;
  if (depth == kMaxDepth) return result;
  const UniqueFd dir(::openat(parent_fd, name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!dir) return errno == ENOENT ? 0 : errno;
  const std::vector<std::string> below = cgroup_files::sub_folders(dir.get());
  if (below.empty()) return result;
  for (const std::string& sub : below) {
    const int error = remove_below(dir.get(), sub, depth + 1);
    if (error != 0) return error;
  }
  if (::unlinkat(parent_fd, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
  return errno;
}

/// In a tree of plain files (tests) the files go first.
void empty_fixture(const Folder& folder) {
  const Result<int> dir = folder.dir_fd();
  if (!dir.ok()) return;
  const int fd = ::openat(*dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* listing = fd < 0 ? nullptr : ::fdopendir(fd);
  if (listing == nullptr) return;
  while (const dirent* entry = ::readdir(listing)) {
    if (entry->d_type == DT_REG) ::unlinkat(*dir, entry->d_name, 0);
  }
  ::closedir(listing);
}

}  // namespace

Result<std::vector<pid_t>> Cgroup::processes() const {
  std::vector<pid_t> pids;
  for (const Folder* folder : witnesses(folders_)) {
    const Result<int> dir = folder->dir_fd();
    if (!dir.ok()) {
      if (dir.error().error_number() == ENOENT) continue;
      return dir.error();
    }
    collect(*dir, 0, pids);
  }
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

Result<void> Cgroup::freeze(milliseconds limit) {
  if (const Folder* folder = find("freezer")) return freeze_v1(*folder, limit);
  const Folder* folder = unified();
  if (folder == nullptr || !cgroup_files::has_file(*folder, "cgroup.freeze")) {
    return Error(ErrorKind::kUnsupported,
                 "pause: this host has no freezer (v1 freezer, or control groups v2 of Linux 5.2)");
  }
  TRY(cgroup_files::write(*folder, "cgroup.freeze", "1", "pause"));
  TRY_ASSIGN(const Events events, Events::open(*folder));
  const Clock::time_point deadline = Clock::now() + limit;
  if (events.wait_for("frozen", 1, std::min(deadline, Clock::now() + kUsualFreeze))) return {};
  release_kernel_threads(*folder, processes().value_or({}));
  // A kernel thread that leaves does not make the kernel count again.
  try_write(*folder, "cgroup.freeze", "0");
  TRY(cgroup_files::write(*folder, "cgroup.freeze", "1", "pause"));
  if (events.wait_for("frozen", 1, deadline)) return {};
  try_write(*folder, "cgroup.freeze", "0");
  return errorf(ErrorKind::kTimeout, "pause: the processes in {} did not stop within {} ms", folder->full_path(),
                limit.count());
}

Result<void> Cgroup::thaw(milliseconds limit) {
  if (const Folder* folder = find("freezer")) return cgroup_files::write(*folder, "freezer.state", "THAWED", "resume");
  const Folder* folder = unified();
  if (folder == nullptr || !cgroup_files::has_file(*folder, "cgroup.freeze")) {
    return Error(ErrorKind::kUnsupported, "resume: this host has no freezer");
  }
  TRY(cgroup_files::write(*folder, "cgroup.freeze", "0", "resume"));
  TRY_ASSIGN(const Events events, Events::open(*folder));
  if (events.wait_for("frozen", 0, Clock::now() + limit)) return {};
  return errorf(ErrorKind::kTimeout, "resume: {} is still frozen after {} ms; a group above it may be frozen",
                folder->full_path(), limit.count());
}

Result<bool> Cgroup::frozen() const {
  if (const Folder* folder = find("freezer")) {
    const std::optional<std::string> state = cgroup_files::read_optional(*folder, "freezer.state");
    if (!state || trimmed(*state) == "THAWED") return false;
    // Frozen through a group above is not paused by us; resume could not thaw it.
    return cgroup_files::read_number(*folder, "freezer.self_freezing").value_or(1) == 1;
  }
  const Folder* folder = unified();
  return folder != nullptr && cgroup_files::read_number(*folder, "cgroup.freeze").value_or(0) == 1;
}

Result<void> Cgroup::kill_all(int signal) const {
  const auto send = [&](const std::vector<pid_t>& pids) -> Result<void> {
    for (const pid_t pid : pids) {
      if (::kill(pid, signal) != 0 && errno != ESRCH) return errnof("send signal {} to process {}", signal, pid);
    }
    return {};
  };
  if (signal == SIGKILL && !fixture_) {
    // cgroup.kill (Linux 5.14) takes the whole tree at once, forks included.
    if (const Folder* folder = unified()) {
      const int error = try_write(*folder, "cgroup.kill", "1");
      const bool alone = folders_.size() == 1;
      if (error == 0 && alone) return {};
    }
  }
  TRY_ASSIGN(std::vector<pid_t> pids, processes());
  if (pids.empty()) return {};
  const Folder* freezer = find("freezer");
  if (signal != SIGKILL || freezer == nullptr || fixture_) return send(pids);
  // Frozen, nobody can fork while the list is read; the signal is delivered at the thaw. A group that somebody paused
  // is thawed too: its processes are to die. One that could not be frozen in time is taken again and again.
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const bool frozen = freeze_v1(*freezer, kFreezeLimit).ok();
    Result<std::vector<pid_t>> all = processes();
    const bool empty = all.ok() && all->empty();
    Result<void> sent = all.ok() ? send(*all) : Result<void>(std::move(all).error());
    const int thawed = try_write(*freezer, "freezer.state", "THAWED");
    TRY(sent);
    if (thawed != 0 && thawed != ENOENT) {
      return Error::from_errno(thawed, fmt::format("thaw {}", freezer->full_path()));
    }
    if (frozen || empty) break;
  }
  return {};
}

Result<void> Cgroup::remove(milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  if (!systemd_unit_.empty()) TRY(stop_systemd_unit(systemd_unit_));
  // v2 first: it is the one that tells when its last process has gone, and then the others are free too.
  std::vector<const Folder*> order;
  for (const Folder& folder : folders_) {
    if (folder.version == 2) order.push_back(&folder);
  }
  for (const Folder& folder : folders_) {
    if (folder.version == 1) order.push_back(&folder);
  }
  for (const Folder* folder : order) {
    if (fixture_) empty_fixture(*folder);
    const std::string path = folder->full_path();
    Backoff backoff(deadline);
    for (;;) {
      const int error = remove_below(AT_FDCWD, path, 0);
      if (error == 0) break;
      if (error != EBUSY) return Error::from_errno(error, fmt::format("remove the control group {}", path));
      if (folder->version == 2) {
        const Result<Events> events = Events::open(*folder);
        if (events.ok() && events->get("populated").value_or(0) == 1) {
          if (events->wait_for("populated", 0, deadline)) continue;
        }
      }
      if (!backoff.wait()) {
        const Result<std::vector<pid_t>> inside = processes();
        return errorf(ErrorKind::kConflict, "remove the control group {}: {} processes are still in it after {} ms",
                      path, inside.ok() ? inside->size() : 0, limit.count());
      }
    }
  }
  return {};
}

}  // namespace hull::isolation
