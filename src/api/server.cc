#include "api/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

#include "api/dashboard.h"
#include "api/worker.h"
#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::api {
namespace {

constexpr int kFirstInherited = 3;                 // sd_listen_fds(3)
constexpr uid_t kRemote = static_cast<uid_t>(-1);  // who comes over TCP
/// Processes that wait for connections. One run of the docker command has three.
constexpr size_t kSpares = 3;
/// So many of those that have served may wait again: clients that come with a connection for each request.
constexpr size_t kMostSpares = 6;
/// New ones are made when no client has come for so long: their making should not cost the client that runs.
constexpr int kQuietMs = 15;

/// sd_notify(3): one datagram to the socket that systemd names.
void notify(std::string_view text) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@') || std::strlen(path) >= sizeof(sockaddr_un::sun_path))
    return;
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = 0;
  ::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
           static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

Result<gid_t> group_id(const std::string& name) {
  if (const auto number = parse_int(name, 0, 4'294'967'294); number.ok()) return static_cast<gid_t>(*number);
  const group* found = ::getgrnam(name.c_str());
  if (found == nullptr) return errorf(ErrorKind::kNotFound, "group {} does not exist: make it, or name another", name);
  return found->gr_gid;
}

}  // namespace

Server::~Server() {
  for (const Listener& listener : listeners_) {
    if (!listener.made_path.empty()) ::unlink(listener.made_path.c_str());
  }
}

Result<Server::Listener> Server::listen_unix(const Address& address) {
  Listener out;
  out.fd.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.fd) return errno_error("make a socket");
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, address.path.c_str(), address.path.size() + 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&name);
  TRY(sys::make_dirs(address.path.substr(0, std::max<size_t>(1, address.path.rfind('/')))));
  // One that was left behind is replaced, one that somebody serves is not.
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), generic, sizeof name) == 0 || errno == EAGAIN) {
    return errorf(ErrorKind::kConflict, "{}: another program serves it already", address.text);
  }
  struct stat info{};
  if (::lstat(address.path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) return errorf(ErrorKind::kExists, "{}: it is there and no socket", address.path);
    ::unlink(address.path.c_str());
  }
  const mode_t before = ::umask(0777);  // nobody connects before owner and mode are right
  const int bound = ::bind(out.fd.get(), generic, sizeof name);
  ::umask(before);
  if (bound != 0) return errnof("listen at {}", address.text);
  out.made_path = address.path;
  if (!api_.group.empty()) {
    TRY_ASSIGN(const gid_t group, group_id(api_.group));
    if (::chown(address.path.c_str(), static_cast<uid_t>(-1), group) != 0) return errnof("chown {}", address.path);
    // The group has to get at the socket; what else is in the folder of runs stays closed by its own mode.
    if (address.path.starts_with(engine_.run_root + "/")) ::chmod(engine_.run_root.c_str(), 0711);
  }
  const unsigned mode = api_.mode != 0 ? api_.mode : api_.group.empty() ? 0600 : 0660;
  if (::chmod(address.path.c_str(), mode) != 0) return errnof("chmod {}", address.path);
  if (::listen(out.fd.get(), SOMAXCONN) != 0) return errnof("listen at {}", address.text);
  return out;
}

Result<Server::Listener> Server::listen_tcp(const Address& address) {
  Listener out;
  out.is_unix = false;
  out.tls = api_.has_tls();
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(address.port);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(address.port);
  const bool is_v4 = ::inet_pton(AF_INET, address.host.c_str(), &v4.sin_addr) == 1;
  if (!is_v4) ::inet_pton(AF_INET6, address.host.c_str(), &v6.sin6_addr);
  out.fd.reset(::socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.fd) return errno_error("make a socket");
  const int one = 1;
  ::setsockopt(out.fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const auto* generic = is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
  if (::bind(out.fd.get(), generic, is_v4 ? sizeof v4 : sizeof v6) != 0 || ::listen(out.fd.get(), SOMAXCONN) != 0) {
    return errnof("listen at {}", address.text);
  }
  return out;
}

/// A socket that systemd listens at for us.
Result<void> Server::adopt(int fd) {
  Listener listener;
  listener.fd.reset(fd);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  int accepts = 0;
  socklen_t size = sizeof accepts;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) != 0 || accepts == 0) {
    return errorf(ErrorKind::kInvalid, "descriptor {}, which came from systemd, is no listening socket", fd);
  }
  listener.is_unix = address.ss_family == AF_UNIX;
  if (!listener.is_unix) {
    listener.tls = api_.has_tls();
    char text[INET6_ADDRSTRLEN] = "";
    const void* const from = address.ss_family == AF_INET
                                 ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(&address)->sin_addr)
                                 : static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr);
    ::inet_ntop(address.ss_family, from, text, sizeof text);
    // The same rules as for addresses of the settings.
    Address same;
    same.kind = Address::Kind::kTcp;
    same.host = text;
    same.text = fmt::format("socket {} of systemd", text);
    ApiSettings as = api_;
    as.hosts = {same};
    TRY(check(as));
  }
  listeners_.push_back(std::move(listener));
  return {};
}

Result<void> Server::take_inherited() {
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  if (pid != nullptr && count != nullptr && parse_int(pid, 1, INT32_MAX).value_or(0) == ::getpid()) {
    const int64_t number = parse_int(count, 0, 64).value_or(0);
    for (int i = 0; i < number; ++i) TRY(adopt(kFirstInherited + i));
  }
  // Not for monitors and others that are started from here.
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  return {};
}

Result<void> Server::open() {
  TRY(check(api_));
  if (api_.has_tls()) {
    TRY_ASSIGN(tls_, make_tls_context(api_));
  }
  TRY(take_inherited());
  if (listeners_.empty()) {
    if (api_.hosts.empty()) {
      TRY_ASSIGN(Address usual, parse_address("unix://" + engine_.run_root + "/docker.sock"));
      api_.hosts.push_back(std::move(usual));
    }
    TRY(check(api_));
    for (const Address& address : api_.hosts) {
      TRY_ASSIGN(Listener listener, address.kind == Address::Kind::kUnix ? listen_unix(address) : listen_tcp(address));
      listeners_.push_back(std::move(listener));
    }
  }
  if (api_.dashboard) {
    TRY_ASSIGN(Listener listener, listen_tcp(*api_.dashboard));
    listener.tls = false;
    listener.dashboard = true;
    listeners_.push_back(std::move(listener));
    TRY_ASSIGN(dashboard_token_, publish_dashboard(engine_.run_root, *api_.dashboard));
  }
  TRY(spares_.open());
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("block signals");
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return errno_error("watch signals");
  notify("READY=1\n");
  ::unsetenv("NOTIFY_SOCKET");
  return {};
}

/// This process serves nobody any more.
void Server::release(const Process& process) {
  if (process.state == Process::State::kBegun) --begun_;
  if (process.state != Process::State::kServing) return;
  if (--per_user_[process.uid] == 0) per_user_.erase(process.uid);
  --serving_;
}

void Server::reap() {
  for (pid_t pid = 0; (pid = ::waitpid(-1, nullptr, WNOHANG)) > 0;) {
    const auto found = processes_.find(pid);
    if (found == processes_.end()) continue;
    if (found->second.state == Process::State::kIdle) spares_.forget(pid);
    release(found->second);
    processes_.erase(found);
  }
}

/// Processes that have become free.
void Server::collect() {
  for (const pid_t pid : spares_.collect(kMostSpares)) {
    const auto found = processes_.find(pid);
    if (found == processes_.end()) continue;
    release(found->second);
    found->second.state = Process::State::kIdle;
  }
}

/// Clients, limits, certificates and the audit log of connections from now on. Addresses stay.
void Server::reload() {
  auto fresh = ApiSettings::load();
  if (!fresh.ok()) return log_error("hulld: the settings are not taken over: {}", fresh.error().message());
  ApiSettings next = api_;
  next.clients = fresh->clients;
  next.max_connections = fresh->max_connections;
  next.max_connections_per_user = fresh->max_connections_per_user;
  if (next.has_tls()) {
    auto context = make_tls_context(next);
    if (!context.ok()) return log_error("hulld: the settings are not taken over: {}", context.error().message());
    tls_ = std::move(*context);
  }
  api_ = std::move(next);
  spares_.dismiss();
}

void Server::end_connections() {
  for (const auto& [pid, uid] : processes_) ::kill(pid, SIGTERM);
}

Result<void> Server::serve() {
  std::vector<pollfd> waits;
  for (const Listener& listener : listeners_) waits.push_back({listener.fd.get(), POLLIN, 0});
  waits.push_back({spares_.fd(), POLLIN, 0});
  waits.push_back({signals_.get(), POLLIN, 0});
  for (;;) {
    const bool too_few = spares_.waiting() + begun_ < kSpares;
    const int ready = ::poll(waits.data(), waits.size(), too_few ? kQuietMs : -1);
    if (ready < 0 && errno != EINTR) return errno_error("wait for connections");
    if (ready == 0 && too_few) start_process({});
    if (ready <= 0) continue;
    if (waits.back().revents != 0) {
      signalfd_siginfo info{};
      while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
          end_connections();
          return {};
        }
        if (info.ssi_signo == SIGHUP) reload();
      }
      reap();
    }
    // Before new clients are taken on: who is free has no part in the limits.
    if (waits[listeners_.size()].revents != 0) collect();
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (waits[i].revents != 0) accept_from(listeners_[i]);
    }
  }
}

void Server::accept_from(const Listener& listener) {
  // As many as wait, but not for ever: signals want their turn.
  for (int i = 0; i < 64; ++i) {
    UniqueFd socket(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) return;
    Task task;
    task.socket = std::move(socket);
    task.uid = kRemote;
    task.is_unix = listener.is_unix;
    task.tls = listener.tls;
    task.dashboard = listener.dashboard;
    if (listener.is_unix) {
      ucred peer{};
      socklen_t size = sizeof peer;
      if (::getsockopt(task.socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) continue;
      task.uid = peer.uid;
    } else {
      const int one = 1;
      ::setsockopt(task.socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (serving_ >= api_.max_connections || per_user_[task.uid] >= api_.max_connections_per_user) {
      if (!listener.tls) {
        constexpr std::string_view kFull =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 37\r\n"
            "Connection: close\r\n\r\n{\"message\":\"too many connections\"}\r\n\r\n";
        ::send(task.socket.get(), kFull.data(), kFull.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      }
      continue;
    }
    const uid_t uid = task.uid;
    const pid_t spare = spares_.hand_over(task);
    if (spare == 0) {
      start_process(std::move(task));
    } else {
      processes_[spare] = {Process::State::kServing, uid};
      ++serving_;
      ++per_user_[uid];
    }
  }
}

/// A process for a connection, or (none) one that will wait for the next.
void Server::start_process(std::optional<Task> task) {
  const pid_t pid = ::fork();
  if (pid == 0) become_worker(std::move(task));
  if (pid < 0) {
    log_error("hulld: start a process for a connection: {}", std::strerror(errno));
    return;
  }
  if (!task) {
    ++begun_;
    processes_[pid] = {Process::State::kBegun, 0};
    return;
  }
  ++serving_;
  ++per_user_[task->uid];
  processes_[pid] = {Process::State::kServing, task->uid};
}

void Server::become_worker(std::optional<Task> task) {
  for (Listener& one : listeners_) one.made_path.clear();
  listeners_.clear();
  signals_.reset();
  spares_.become_worker();
  std::signal(SIGPIPE, SIG_IGN);
  // Handled and not ignored, so that what is started from here can be waited for; it wakes a poll.
  struct sigaction wake{};
  wake.sa_handler = [](int) {};
  wake.sa_flags = SA_NOCLDSTOP;
  ::sigaction(SIGCHLD, &wake, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  Worker(api_, engine_, tls_.get(), dashboard_token_).run(std::move(task), spares_);
}

}  // namespace hull::api
