#include "rootless/keeper.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "rootless/lacks.h"
#include "rootless/ports.h"
#include "rootless/protocol.h"
#include "rootless/rootless.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::rootless {
namespace {

/// Where DNS queries are taken by pasta when the host's servers are on its loopback: nobody else's address (RFC 3927).
constexpr const char* kDnsForward = "169.254.53.53";
/// How long the namespaces wait for the next command when nobody uses them.
constexpr int64_t kIdleMs = 2000;
/// Before pasta is started again, when it ended soon after its start: doubled each time, up to the longest.
constexpr int64_t kFirstRepairMs = 100, kLongestRepairMs = 30'000;

struct SocketRequest {
  int family = 0, type = 0;
};

// ---- programs

struct Finished {
  int code = 0;
  std::string error;
};

Result<Finished> run_program(std::vector<std::string> words) {
  TRY_ASSIGN(sys::Pipe errors, sys::make_pipe());
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(&actions, 0, 1);
  ::posix_spawn_file_actions_adddup2(&actions, errors.write_end.get(), 2);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  // The outside process keeps its signals for later; what it starts must take them.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Error::from_errno(error, fmt::format("start {}", words[0]));
  errors.write_end.reset();
  Finished out;
  out.error = sys::read_all(errors.read_end.get(), 16 << 10).value_or("");
  while (!out.error.empty() && out.error.back() == '\n') out.error.pop_back();
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  out.code = sys::exit_code(status);
  return out;
}

// ---- the user namespace

Error lacking(const Lack& lack) {
  return errorf(ErrorKind::kUnsupported, "{}: {}: {}", lack.subject, lack.finding, lack.advice);
}

Result<void> map_ids(pid_t pid, const char* program, const char* file, uint32_t own) {
  if (const auto lack = lack_of_ids(program, file)) return lacking(*lack);
  std::vector<std::string> words{program, std::to_string(pid), "0", std::to_string(own), "1"};
  uint64_t next = 1;
  for (const IdRange& range : parse_ranges(sys::read_file(file).value_or(""), user_name(), ::geteuid())) {
    words.insert(words.end(), {std::to_string(next), std::to_string(range.start), std::to_string(range.count)});
    next += range.count;
  }
  TRY_ASSIGN(const Finished ran, run_program(std::move(words)));
  if (ran.code != 0) return errorf(ErrorKind::kUnsupported, "{}: {}; see {}", program, ran.error, file);
  return {};
}

Error user_namespaces_forbidden() {
  const int saved = errno;
  if (const auto lack = lack_of_user_namespaces()) return lacking(*lack);
  return errorf(ErrorKind::kUnsupported, "make a user namespace: {}", std::strerror(saved));
}

Result<void> write_file(const std::string& path, std::string_view text) {
  return sys::replace_file(path, text, 0600, false);
}

/// The host's resolv.conf as it is true inside: servers on the host's loopback are reached through pasta.
std::string inner_resolv_conf() {
  const std::string text = sys::read_file("/etc/resolv.conf", 1 << 20).value_or("");
  std::string out;
  std::string_view rest = text;
  bool servers = false, dropped = false;
  while (!rest.empty()) {
    const size_t newline = rest.find('\n');
    const std::string_view line = rest.substr(0, newline);
    rest = newline == std::string_view::npos ? std::string_view() : rest.substr(newline + 1);
    const bool server = line.starts_with("nameserver");
    const std::string_view address = server ? line.substr(line.find_last_of(" \t") + 1) : std::string_view();
    if (server && (address.starts_with("127.") || address == "::1" || address.find('%') != std::string_view::npos)) {
      dropped = true;
      continue;
    }
    servers = servers || server;
    out.append(line).append("\n");
  }
  if (!servers && dropped) out += fmt::format("nameserver {}\n", kDnsForward);
  return out;
}

// ---- the inside process

Result<void> bring_loopback_up() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("open a socket");
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) return errno_error("bring lo up");
  return {};
}

Result<void> settle_inside(const std::string& run) {
  if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0) return errno_error("become root of the user namespace");
  if (::unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) return errno_error("make a mount and a network namespace");
  // Mounts of the host still arrive; ours don't leave.
  if (::mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return errno_error("keep mounts to ourselves");
  TRY(bring_loopback_up());
  const std::string resolv = run + "/resolv.conf";
  TRY(write_file(resolv, inner_resolv_conf()));
  if (::mount(resolv.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr) != 0 && errno != ENOENT) {
    return errno_error("put a resolv.conf in place");
  }
  return {};
}

Result<void> join(pid_t pid) {
  TRY_ASSIGN(const UniqueFd process, sys::pidfd_open(pid));
  if (::setns(process.get(), CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0) {
    return errnof("join the namespaces of process {}", pid);
  }
  if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0) return errno_error("become root of the user namespace");
  return {};
}

void answer_sockets(int control) {
  while (true) {
    SocketRequest request;
    const ssize_t got = ::recv(control, &request, sizeof request, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof request)) return;  // the outside is gone
    const UniqueFd socket(::socket(request.family, request.type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int fd = socket.get();
    if (!sys::send_fds(control, "s", socket ? std::vector<int>{fd} : std::vector<int>{}).ok()) return;
  }
}

/// Who started us waits for the end of our standard error.
bool let_go_of_starter() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {0, 1, 2}) ::dup2(null.get(), fd);
  return ::chdir("/") == 0;
}

/// Tells each step over `control`: "u" when the user namespace is there (then waits for its ids), "r" when all is.
[[noreturn]] void be_inside(int control, const std::string& run, pid_t joined) {
  const auto fail = [&](const Error& error) {
    const std::string text = "!" + error.message();
    ::send(control, text.data(), text.size(), MSG_NOSIGNAL);
    ::_exit(1);
  };
  ::prctl(PR_SET_NAME, "hull-rootless-i");
  if (joined != 0) {
    if (auto done = join(joined); !done.ok()) fail(done.error());
  } else {
    if (::unshare(CLONE_NEWUSER) != 0) fail(user_namespaces_forbidden());
    ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // newuidmap looks at our files below /proc
    ::send(control, "u", 1, MSG_NOSIGNAL);
    char go = 0;
    if (::recv(control, &go, 1, 0) != 1) ::_exit(1);
    if (auto done = settle_inside(run); !done.ok()) fail(done.error());
  }
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // so that the user's commands may join
  ::prctl(PR_SET_PDEATHSIG, 0);
  if (!let_go_of_starter()) ::_exit(1);
  ::send(control, "r", 1, MSG_NOSIGNAL);
  answer_sockets(control);
  ::_exit(0);
}

// ---- the outside process

class Outside {
 public:
  Outside(std::string run, pid_t joined) : run_(std::move(run)), joined_(joined) {}
  /// Everything that can fail for a reason that the user should read; writes run/rootless last.
  Result<void> prepare();
  Result<void> serve();

 private:
  Result<std::string> hear();
  Result<void> start_inside();
  Result<void> start_pasta();
  /// From now on a pasta that ends (killed, or run down) is started again.
  void watch_pasta(sys::Loop& loop);
  void repair_pasta(sys::Loop& loop);
  Result<void> write_record();
  Result<UniqueFd> inner_socket(int family, int type);
  /// Somebody else in the user namespace: a monitor, hull-dns, a command. 0 when there is nobody.
  pid_t somebody_inside() const;
  void wait_for_last(sys::Loop& loop);
  bool may_end();

  std::string run_;
  pid_t joined_ = 0, inside_ = -1, pasta_ = -1;
  uint64_t user_namespace_ = 0;
  int64_t repair_ms_ = 0;  ///< to wait before the next start of pasta
  UniqueFd control_, inside_fd_, listener_, somebody_, pasta_fd_;
  std::optional<sys::FileLock> alone_;
};

Result<std::string> Outside::hear() {
  std::array<char, 4096> buffer;
  ssize_t got = -1;
  do {
    got = ::recv(control_.get(), buffer.data(), buffer.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return errorf(ErrorKind::kInternal, "the process inside ended at once");
  std::string text(buffer.data(), static_cast<size_t>(got));
  if (text[0] == '!') return Error(ErrorKind::kUnsupported, text.substr(1));
  return text;
}

Result<void> Outside::start_inside() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return errno_error("make a socket pair");
  control_.reset(pair[0]);
  UniqueFd theirs(pair[1]);
  inside_ = ::fork();
  if (inside_ < 0) return errno_error("fork");
  if (inside_ == 0) {
    control_.reset();
    be_inside(theirs.get(), run_, joined_);
  }
  theirs.reset();
  TRY_ASSIGN(inside_fd_, sys::pidfd_open(inside_));
  if (joined_ == 0) {
    TRY(hear());
    TRY(map_ids(inside_, "newuidmap", "/etc/subuid", ::geteuid()));
    TRY(map_ids(inside_, "newgidmap", "/etc/subgid", ::getegid()));
    if (::send(control_.get(), "g", 1, MSG_NOSIGNAL) != 1) return errno_error("go on");
  }
  TRY(hear());
  return {};
}

/// pasta complains in the middle of its words when the host has no syslog.
std::string without_syslog_lines(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    if (line.starts_with("Failed to send") && line.ends_with("syslog")) continue;
    if (!out.empty()) out += "; ";
    out += line;
  }
  return out;
}

Result<void> Outside::start_pasta() {
  const std::string pid_file = run_ + "/pasta.pid";
  const auto read_pid = [&] {
    const auto text = sys::read_file(pid_file, 64).value_or("");
    return static_cast<pid_t>(parse_int(std::string_view(text).substr(0, text.find('\n')), 1, 1 << 22).value_or(-1));
  };
  if (const pid_t old = read_pid(); old > 0) {
    const auto words = sys::read_file(fmt::format("/proc/{}/cmdline", old), 4096);
    if (words.ok() && words->find(pid_file) != std::string::npos) {  // not another process that got its number
      pasta_ = old;                                                  // it outlived the earlier keeper
      if (joined_ != 0) return {};
      ::kill(old, SIGTERM);  // and the namespaces
    }
  }
  ::unlink(pid_file.c_str());
  if (const auto lack = lack_of_network()) return lacking(*lack);
  // No port is passed by pasta itself: what workloads publish is exactly what is open. --no-map-gw: the gateway's
  // address is not the host's loopback.
  auto ran = run_program({"pasta", "--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U",
                          "none", "--dns-forward", kDnsForward, "--quiet", "--pid", pid_file, std::to_string(inside_)});
  if (!ran.ok()) return std::move(ran).error();
  if (ran->code != 0) {
    const std::string said = without_syslog_lines(ran->error);
    return errorf(ErrorKind::kUnsupported, "pasta: {}", said.empty() ? "failed" : said);
  }
  pasta_ = read_pid();
  return {};
}

void Outside::watch_pasta(sys::Loop& loop) {
  if (pasta_ <= 0) return;
  auto opened = sys::pidfd_open(pasta_);
  if (!opened.ok()) return repair_pasta(loop);
  pasta_fd_ = std::move(*opened);
  const auto settled = loop.after(kLongestRepairMs, [this] { repair_ms_ = 0; });
  const auto ended = [this, &loop, settled](uint32_t) {
    loop.forget(pasta_fd_.get());
    pasta_fd_.reset();
    loop.cancel(settled);
    repair_pasta(loop);
  };
  ignore_result(loop.watch(pasta_fd_.get(), EPOLLIN, ended));
}

// Its device goes with it, and with that addresses and routes; the next one brings them again.
void Outside::repair_pasta(sys::Loop& loop) {
  pasta_ = -1;
  loop.after(repair_ms_, [this, &loop] {
    const auto started = start_pasta();
    started.ok() && pasta_ > 0 ? watch_pasta(loop) : repair_pasta(loop);
  });
  repair_ms_ = std::clamp(repair_ms_ * 2, kFirstRepairMs, kLongestRepairMs);
}

Result<void> Outside::prepare() {
  TRY(start_inside());
  auto network = start_pasta();
  if (!network.ok()) {
    // Without a way out everything but the outside works; it is said once, when the namespaces are made.
    const bool missing_route = network.error().message().find("routable interface") != std::string::npos;
    if (!missing_route) return network;
    log_warning("{}: workloads have no way out of this machine", network.error().message());
  }
  const std::string path = run_ + "/rootless.sock";
  ::unlink(path.c_str());
  TRY_ASSIGN(const UniqueFd folder, sys::open(run_, O_PATH | O_DIRECTORY));
  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return errno_error("make a socket");
  const sockaddr_un address = keeper_address(folder.get());
  const mode_t before = ::umask(0077);
  const int bound = ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(listener_.get(), 64) != 0) return errnof("listen on {}", path);
  return write_record();
}

Result<void> Outside::write_record() {
  Keeper keeper;
  keeper.inside_pid = inside_;
  keeper.outside_pid = ::getpid();
  const auto inside = sys::process_stat(inside_), outside = sys::process_stat(::getpid());
  user_namespace_ = keeper.user_inode = namespace_inode(inside_, "user");
  keeper.mount_inode = namespace_inode(inside_, "mnt");
  keeper.network_inode = namespace_inode(inside_, "net");
  if (!inside || !outside || keeper.user_inode == 0 || keeper.mount_inode == 0 || keeper.network_inode == 0) {
    return errorf(ErrorKind::kInternal, "the process inside ended at once");
  }
  keeper.inside_start = inside->start_time;
  keeper.outside_start = outside->start_time;
  return write_file(run_ + "/rootless", print_keeper(keeper));
}

Result<UniqueFd> Outside::inner_socket(int family, int type) {
  const SocketRequest request{family, type};
  if (::send(control_.get(), &request, sizeof request, MSG_NOSIGNAL) < 0) return errno_error("ask the inside");
  TRY_ASSIGN(auto answer, sys::receive_fds(control_.get()));
  if (answer.fds.empty()) return errorf(ErrorKind::kIo, "no socket inside");
  return std::move(answer.fds.front());
}

pid_t Outside::somebody_inside() const {
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  if (proc == nullptr) return 0;
  while (const dirent* entry = ::readdir(proc.get())) {
    const auto pid = static_cast<pid_t>(parse_int(entry->d_name, 1, 1 << 22).value_or(0));
    if (pid == 0 || pid == inside_ || pid == pasta_) continue;
    // One that has ended and that nobody has waited for still has a user namespace, but no other.
    if (namespace_inode(pid, "user") == user_namespace_ && namespace_inode(pid, "mnt") != 0) return pid;
  }
  return 0;
}

// Nobody is inside, and no command is on its way in.
bool Outside::may_end() {
  auto lock = sys::FileLock::acquire(run_ + "/rootless.users", true, false);
  const bool folder_gone = !lock.ok() && lock.error().kind() == ErrorKind::kNotFound;
  if ((!lock.ok() && !folder_gone) || somebody_inside() != 0) return false;
  if (lock.ok()) alone_ = std::move(*lock);  // until this process is gone
  return true;
}

// The namespaces live as long as somebody uses them, and a moment longer for the next command. One of them is watched
// at a time: monitors live as long as their workloads.
void Outside::wait_for_last(sys::Loop& loop) {
  if (somebody_) {
    loop.forget(somebody_.get());
    somebody_.reset();
  }
  const auto again = [this, &loop] { wait_for_last(loop); };
  if (const pid_t pid = somebody_inside(); pid != 0) {
    auto opened = sys::pidfd_open(pid);
    if (opened.ok() && loop.watch(opened->get(), EPOLLIN, [again](uint32_t) { again(); }).ok()) {
      somebody_ = std::move(*opened);
      return;
    }
  }
  loop.after(kIdleMs, [this, &loop, again] { may_end() ? loop.stop() : again(); });
}

Result<void> Outside::serve() {
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigaddset(&ends, SIGINT);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  rlimit files{};  // two for each connection to a published port
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  const UniqueFd signals(::signalfd(-1, &ends, SFD_CLOEXEC));
  TRY_ASSIGN(sys::Loop loop, sys::Loop::open());
  const auto stop = [&](uint32_t) { loop.stop(); };
  TRY(loop.watch(signals.get(), EPOLLIN, stop));
  TRY(loop.watch(inside_fd_.get(), EPOLLIN, stop));
  PortService ports(loop, std::move(listener_), [this](int family, int type) { return inner_socket(family, type); });
  TRY(ports.start());
  watch_pasta(loop);
  wait_for_last(loop);
  auto ran = loop.run();
  ignore_result(sys::pidfd_signal(inside_fd_.get(), SIGKILL));
  // Ended too early, by a signal or with the inside one: the next keeper finds the workloads by the record, and pasta.
  if (!alone_ && !may_end()) return ran;
  ::unlink((run_ + "/rootless").c_str());
  ::unlink((run_ + "/rootless.sock").c_str());
  if (pasta_ > 0) ::kill(pasta_, SIGTERM);
  return ran;
}

int fail(const Error& error) {
  const std::string text = error.message() + "\n";
  ignore_result(sys::write_all(STDERR_FILENO, text));
  return 1;
}

}  // namespace

sockaddr_un keeper_address(int run_dir_fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/rootless.sock", run_dir_fd);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

int main(int argc, char** argv) {
  std::string run;
  pid_t joined = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    if (option == "--run-dir") run = argv[i + 1];
    if (option == "--join") joined = static_cast<pid_t>(parse_int(argv[i + 1], 1, 1 << 22).value_or(0));
  }
  if (run.empty() || run[0] != '/') {
    return fail(Error(ErrorKind::kInvalid, "usage: hull-rootless --run-dir DIR [--join PID]; hull starts it"));
  }
  if (::geteuid() == 0) return fail(Error(ErrorKind::kInvalid, "hull-rootless is for ordinary users"));
  std::array<int, 2> ready{};
  if (::pipe2(ready.data(), O_CLOEXEC) != 0) return fail(errno_error("make a pipe"));
  const pid_t pid = ::fork();
  if (pid < 0) return fail(errno_error("fork"));
  if (pid > 0) {
    ::close(ready[1]);
    char byte = 0;
    return ::read(ready[0], &byte, 1) == 1 ? 0 : 1;  // it has said why
  }
  Outside outside(run, joined);
  if (auto prepared = outside.prepare(); !prepared.ok()) return fail(prepared.error());
  const char byte = 0;
  if (!let_go_of_starter() || ::write(ready[1], &byte, 1) != 1) return 1;
  ::close(ready[1]);
  return outside.serve().ok() ? 0 : 1;
}

}  // namespace hull::rootless
