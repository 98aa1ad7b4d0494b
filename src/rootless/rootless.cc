#include "rootless/rootless.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/error_format.h"
#include "base/units.h"
#include "rootless/protocol.h"
#include "sys/daemon.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::rootless {
namespace {

constexpr size_t kLongestAnswer = 32;
/// In the environment, because some commands become another program on the way.
constexpr const char* kReplacedVariable = "_HULL_ROOTLESS_REPLACED";

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

// A folder in /tmp may have been made by anybody.
Result<void> make_own_folder(const std::string& path) {
  TRY(sys::make_dirs(path, 0700));
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return errnof("stat {}", path);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid()) {
    return errorf(ErrorKind::kPermission, "{} belongs to another user; set XDG_RUNTIME_DIR to a folder of your own",
                  path);
  }
  return {};
}

bool is_whole(const Keeper& keeper) {
  return keeper.inside_pid > 0 && sys::is_alive(keeper.inside_pid, keeper.inside_start) &&
         sys::is_alive(keeper.outside_pid, keeper.outside_start);
}

Result<Keeper> read_keeper(const std::string& run) {
  TRY_ASSIGN(const std::string text, sys::read_file(run + "/rootless", 4096));
  return parse_keeper(text);
}

// The keeper was killed, but a monitor may still live in its namespaces: they are joined again through it. A workload's
// own process never qualifies, whatever it calls itself: it has mounts of its own.
pid_t anybody_inside(const Keeper& keeper) {
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  if (proc == nullptr || keeper.user_inode == 0 || keeper.mount_inode == 0) return 0;
  while (const dirent* entry = ::readdir(proc.get())) {
    const auto number = parse_int(entry->d_name, 1, 1 << 22);
    if (!number.ok()) continue;
    const auto pid = static_cast<pid_t>(*number);
    if (namespace_inode(pid, "user") == keeper.user_inode && namespace_inode(pid, "mnt") == keeper.mount_inode &&
        namespace_inode(pid, "net") == keeper.network_inode) {
      return pid;
    }
  }
  return 0;
}

Result<void> start_keeper(const std::string& program, const std::string& run, pid_t join) {
  std::vector<std::string> argv = {program, "--run-dir", run};
  if (join != 0) argv.insert(argv.end(), {"--join", std::to_string(join)});
  return sys::start_daemon(std::move(argv));
}

// In the folder of helpers, or beside this program.
std::string keeper_program() {
  if (const char* folder = variable("HULL_LIBEXEC")) return fmt::format("{}/hull-rootless", folder);
  std::array<char, 4096> self{};
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
  const std::string path(self.data(), length > 0 ? static_cast<size_t>(length) : 0);
  const std::string folder = path.substr(0, path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  const std::string beside = folder + "/hull-rootless";
  return ::access(beside.c_str(), X_OK) == 0 ? beside : folder + "/../libexec/hull/hull-rootless";
}

Result<void> replace_keeper(const std::string& run, const Keeper& old) {
  constexpr int kAttempts = 5;
  for (int attempt = 1;; ++attempt) {
    const pid_t left = anybody_inside(old);
    auto started = start_keeper(keeper_program(), run, left);
    if (started.ok() && left != 0) ::setenv(kReplacedVariable, "1", 1);
    // Who was left may have ended meanwhile: the old inside process does when the outside one was killed.
    if (started.ok() || left == 0 || attempt == kAttempts) return started;
  }
}

/// The one that is there, or a new one.
Result<Keeper> whole_keeper(const std::string& run) {
  auto keeper = read_keeper(run);
  if (keeper.ok() && is_whole(*keeper)) return keeper;
  TRY_ASSIGN(const auto lock, sys::FileLock::acquire(run + "/rootless.lock", true, true));
  keeper = read_keeper(run);  // another command may have been quicker
  if (keeper.ok() && is_whole(*keeper)) return keeper;
  TRY(replace_keeper(run, keeper.ok() ? *keeper : Keeper()));
  return read_keeper(run);
}

// A process gives its namespaces back a moment before it counts as ended (exit_task_namespaces in do_exit).
void wait_for_end(int pidfd) {
  constexpr int kLongestEndMs = 5000;
  pollfd end{pidfd, POLLIN, 0};
  while (::poll(&end, 1, kLongestEndMs) < 0 && errno == EINTR) {
  }
}

Result<void> join_namespaces(const Keeper& keeper) {
  TRY_ASSIGN(const UniqueFd process, sys::pidfd_open(keeper.inside_pid));
  if (!sys::is_alive(keeper.inside_pid, keeper.inside_start)) {
    return errorf(ErrorKind::kUnavailable, "hull-rootless ended just now: try again");
  }
  // The other mount namespace has the same tree, but a process starts at its root.
  std::string folder(4096, '\0');
  const bool known = ::getcwd(folder.data(), folder.size()) != nullptr;
  if (::setns(process.get(), CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0) {
    Error error = errno_error("enter the namespaces of hull-rootless");
    if (error.error_number() == ESRCH) wait_for_end(process.get());
    return error;
  }
  if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0) return errno_error("become root of the user namespace");
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // the keeper looks who is inside; a workload has less rights, and can't
  if (known) ignore_result(::chdir(folder.c_str()) == 0 ? Result<void>() : errno_error("chdir"));
  return {};
}

void set_variables(const Folders& where) {
  ::setenv("HULL_ROOT", where.data.c_str(), 1);
  ::setenv("HULL_RUN", where.run.c_str(), 1);
  // The user's own settings, when there are some; else the host's, whose folders the variables above overrule.
  const char* config = variable("XDG_CONFIG_HOME");
  const char* home = variable("HOME");
  if (variable("HULL_CONFIG") != nullptr || (config == nullptr && home == nullptr)) return;
  const std::string file =
      config != nullptr ? fmt::format("{}/hull/hull.toml", config) : fmt::format("{}/.config/hull/hull.toml", home);
  if (::access(file.c_str(), R_OK) == 0) ::setenv("HULL_CONFIG", file.c_str(), 1);
}

}  // namespace

uint64_t namespace_inode(pid_t pid, const char* name) {
  struct stat info{};
  return ::stat(fmt::format("/proc/{}/ns/{}", pid, name).c_str(), &info) == 0 ? info.st_ino : 0;
}

bool needed() { return ::getauxval(AT_EUID) != 0 && !inside(); }

Result<Folders> folders() {
  Folders out;
  const char* home = variable("HOME");
  if (const char* root = variable("HULL_ROOT")) {
    out.data = root;
  } else if (const char* data = variable("XDG_DATA_HOME")) {
    out.data = fmt::format("{}/hull", data);
  } else if (home != nullptr) {
    out.data = fmt::format("{}/.local/share/hull", home);
  } else {
    return errorf(ErrorKind::kInvalid, "neither HOME nor HULL_ROOT is set: no place for images and containers");
  }
  const std::string own = fmt::format("/run/user/{}", ::geteuid());
  if (const char* run = variable("HULL_RUN")) {
    out.run = run;
  } else if (const char* runtime = variable("XDG_RUNTIME_DIR")) {
    out.run = fmt::format("{}/hull", runtime);
  } else if (::access(own.c_str(), W_OK) == 0) {
    out.run = own + "/hull";
  } else {
    out.run = fmt::format("/tmp/hull-{}", ::geteuid());
  }
  if (!out.data.starts_with('/') || !out.run.starts_with('/')) {
    return errorf(ErrorKind::kInvalid, "{} and {}: absolute paths are meant", out.data, out.run);
  }
  return out;
}

Result<void> settle() {
  if (!needed()) return {};
  TRY_ASSIGN(const Folders where, folders());
  TRY(make_own_folder(where.run));
  set_variables(where);
  return {};
}

Result<void> enter() {
  if (!needed()) return {};
  TRY(settle());
  TRY_ASSIGN(const Folders where, folders());
  const uid_t uid = ::geteuid();
  // Held for the life of this process: a keeper ends only when it gets it alone (keeper.cc).
  TRY_ASSIGN(auto users, sys::FileLock::acquire(where.run + "/rootless.users", false, true));
  constexpr int kAttempts = 5;
  for (int attempt = 1;; ++attempt) {
    TRY_ASSIGN(const Keeper keeper, whole_keeper(where.run));
    auto joined = join_namespaces(keeper);
    if (joined.ok()) break;
    // Killed just now: it is replaced like one that was killed before.
    if (is_whole(keeper) || attempt == kAttempts) return joined;
  }
  static const sys::FileLock held = std::move(users);
  ::setenv(sys::kUserVariable, std::to_string(uid).c_str(), 1);
  return {};
}

bool keeper_was_replaced() {
  if (!inside() || variable(kReplacedVariable) == nullptr) return false;
  ::unsetenv(kReplacedVariable);
  return true;
}

Result<UniqueFd> publish(const PortRequest& request) {
  const char* run = variable("HULL_RUN");
  if (run == nullptr) return errorf(ErrorKind::kInternal, "publish a port: not inside");
  TRY_ASSIGN(const UniqueFd folder, sys::open(run, O_PATH | O_DIRECTORY));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("make a socket");
  const sockaddr_un address = keeper_address(folder.get());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error("connect to hull-rootless").as(ErrorKind::kUnavailable);
  }
  const std::string text = fmt::format("{} {} {} {} {}", request.udp ? "udp" : "tcp", request.port, request.address,
                                       request.owner, request.owner_start);
  if (::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) {
    return errno_error("ask hull-rootless").as(ErrorKind::kUnavailable);
  }
  std::array<char, kLongestAnswer> answer;
  const ssize_t got = ::recv(socket.get(), answer.data(), answer.size(), 0);
  if (got <= 0) return errorf(ErrorKind::kUnavailable, "hull-rootless does not answer");
  const std::string_view said(answer.data(), static_cast<size_t>(got));
  if (said == kPublished) return request.owner != 0 ? UniqueFd() : std::move(socket);
  const auto error = parse_int(said, 1, 4095);
  const int number = error.ok() ? static_cast<int>(*error) : EIO;
  Error failure = Error::from_errno(
      number, fmt::format("publish port {}/{} on {}", request.port, request.udp ? "udp" : "tcp", request.address));
  if (number == EADDRINUSE) return std::move(failure).as(ErrorKind::kConflict);
  if (number == EACCES || number == EPERM) {
    return errorf(ErrorKind::kPermission,
                  "{}: an ordinary user gets ports from {} on (sysctl net.ipv4.ip_unprivileged_port_start)",
                  failure.message(),
                  sys::read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", 64).value_or("1024"));
  }
  return failure;
}

Result<Keeper> parse_keeper(std::string_view text) {
  std::array<int64_t, 7> numbers{};
  for (int64_t& number : numbers) {
    const size_t blank = text.find_first_of(" \n");
    TRY_ASSIGN(number, parse_int(text.substr(0, blank), 0, INT64_MAX));
    text = blank == std::string_view::npos ? std::string_view() : text.substr(blank + 1);
  }
  Keeper out;
  out.inside_pid = static_cast<pid_t>(numbers[0]);
  out.inside_start = static_cast<uint64_t>(numbers[1]);
  out.outside_pid = static_cast<pid_t>(numbers[2]);
  out.outside_start = static_cast<uint64_t>(numbers[3]);
  out.user_inode = static_cast<uint64_t>(numbers[4]);
  out.mount_inode = static_cast<uint64_t>(numbers[5]);
  out.network_inode = static_cast<uint64_t>(numbers[6]);
  return out;
}

std::string print_keeper(const Keeper& keeper) {
  return fmt::format("{} {} {} {} {} {} {}\n", keeper.inside_pid, keeper.inside_start, keeper.outside_pid,
                     keeper.outside_start, keeper.user_inode, keeper.mount_inode, keeper.network_inode);
}

std::vector<IdRange> parse_ranges(std::string_view text, std::string_view name, uid_t id) {
  constexpr size_t kMostRanges = 64;
  std::vector<IdRange> out;
  const std::string number = std::to_string(id);
  while (!text.empty() && out.size() < kMostRanges) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    const size_t first = line.find(':'), second = line.rfind(':');
    if (first == std::string_view::npos || first == second) continue;
    const std::string_view who = line.substr(0, first);
    if (who != name && who != number) continue;
    const auto start = parse_int(line.substr(first + 1, second - first - 1), 1, UINT32_MAX - 1);
    const auto count = parse_int(line.substr(second + 1), 1, UINT32_MAX - 1);
    if (!start.ok() || !count.ok() || *start + *count > UINT32_MAX) continue;
    out.push_back({static_cast<uint32_t>(*start), static_cast<uint32_t>(*count)});
  }
  return out;
}

}  // namespace hull::rootless
