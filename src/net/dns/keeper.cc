#include "net/dns/keeper.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "net/dns/sandbox.h"
#include "net/dns/worker.h"
#include "net/names_socket.h"
#include "sys/process.h"

namespace hull::net::dns {
namespace {

constexpr size_t kLongestRecord = 128 << 10;
constexpr int64_t kSoonMs = 1000;  // a worker that ends sooner is started again only after this time
constexpr timeval kSendTimeout{5, 0}, kAskTimeout{1, 0};
constexpr const char* kEtc = "/etc";
constexpr const char* kResolved = "/run/systemd/resolve";

/// The worker of a keeper that was killed serves on; its place is ours now.
void end_old_worker(const std::string& path) {
  auto text = sys::read_file(path, 64);
  if (!text.ok()) return;
  const size_t blank = text->find(' ');
  if (blank == std::string::npos) return;
  const auto pid = parse_int(std::string_view(*text).substr(0, blank), 2, 1 << 22);
  const auto start = parse_int(std::string_view(*text).substr(blank + 1), 0, INT64_MAX);
  if (!pid.ok() || !start.ok()) return;
  auto process = sys::pidfd_open(static_cast<pid_t>(*pid));
  const auto found = sys::process_stat(static_cast<pid_t>(*pid));
  if (!process.ok() || !found || found->start_time != static_cast<uint64_t>(*start)) return;
  ignore_result(sys::pidfd_signal(process->get(), SIGKILL));
  pollfd wait{process->get(), POLLIN, 0};
  ::poll(&wait, 1, 2000);
}

std::string read_text(const std::string& path) {
  auto text = sys::read_file(path, 1 << 20);
  return text.ok() ? std::move(*text) : std::string();
}

}  // namespace

std::string host_servers(const std::string& root) {
  const std::string etc_text = read_text(root + "/etc/resolv.conf");
  const std::string_view path = resolv_conf_path(etc_text);
  ResolvConf conf = parse_resolv_conf(path == "/etc/resolv.conf" ? etc_text : read_text(root + std::string(path)));
  if (conf.nameservers.empty()) conf = parse_resolv_conf(etc_text);  // then the local one, which we can reach
  std::string out;
  size_t count = 0;
  for (const std::string& server : conf.nameservers) {
    if (++count > kMostDnsServers) break;
    const size_t percent = server.find('%');
    if (percent == std::string::npos) {
      out += server + '\n';
      continue;
    }
    const unsigned index = ::if_nametoindex(server.substr(percent + 1).c_str());
    if (index != 0) out += fmt::format("{}%{}\n", server.substr(0, percent), index);
  }
  return out;
}

Keeper::Keeper(std::string run_dir, Loop loop, sys::FileLock lock) noexcept
    : run_dir_(std::move(run_dir)), loop_(std::move(loop)), lock_(std::move(lock)) {}
Keeper::~Keeper() = default;

Result<std::unique_ptr<Keeper>> Keeper::open(const std::string& run_dir) {
  TRY(sys::make_dirs(run_dir + "/names"));
  TRY(sys::make_dirs(run_dir + "/dns.empty", 0500));
  auto lock = sys::FileLock::acquire(run_dir + "/dns.lock", true, false);
  if (!lock.ok()) {
    if (lock.error().kind() == ErrorKind::kConflict) return std::unique_ptr<Keeper>();
    return std::move(lock).error();
  }
  end_old_worker(run_dir + "/dns.worker");
  TRY_ASSIGN(Loop loop, Loop::open());
  std::unique_ptr<Keeper> out(new Keeper(run_dir, std::move(loop), std::move(*lock)));
  // Two sockets and a process for each workload.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  TRY(out->listen());
  return out;
}

Result<void> Keeper::listen() {
  const std::string path = run_dir_ + "/dns.sock";
  ::unlink(path.c_str());
  TRY_ASSIGN(const UniqueFd folder, sys::open(run_dir_, O_PATH | O_DIRECTORY));
  socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return errno_error("make a socket");
  const sockaddr_un address = dns_socket_address(folder.get());
  const mode_t before = ::umask(0077);
  const int bound = ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(socket_.get(), 256) != 0) return errnof("listen on {}", path);
  changes_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!changes_) return errno_error("make an inotify");
  // Whoever edits resolv.conf replaces it, as a rule; so the folders are watched.
  for (const char* watched : {kEtc, kResolved}) {
    const int id = ::inotify_add_watch(changes_.get(), watched, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR);
    if (id >= 0) resolver_watches_.insert(id);
  }
  return {};
}

Result<void> Keeper::run() {
  TRY(confine_keeper());
  TRY(start_worker());
  read_all();
  TRY(loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { on_connection(); }));
  TRY(loop_.watch(changes_.get(), EPOLLIN, [this](uint32_t) { on_change(); }));
  // Who started us is about to ask; a start without endpoints ends by itself.
  loop_.after(kSoonMs, [this] { end_if_idle(); });
  TRY(loop_.run());
  return {};
}

// ---- endpoints

void Keeper::read_all() {
  auto records = list_name_records(run_dir_);
  if (!records.ok()) return;
  for (const NameRecord& record : *records) {
    auto served = serve(record.network_id, record.workload_id);
    if (!served.ok()) log_warning("names of workload {}: {}", record.workload_id, served.error().message());
  }
}

void Keeper::watch_network(const std::string& network) {
  const std::string path = run_dir_ + "/names/" + network;
  const int id = ::inotify_add_watch(changes_.get(), path.c_str(), IN_DELETE | IN_ONLYDIR);
  if (id >= 0) watched_[id] = network;
}

Result<void> Keeper::serve(const std::string& network, const std::string& workload) {
  watch_network(network);  // before the file is read: its removal is seen whenever it comes
  TRY_ASSIGN(const std::string text,
             sys::read_file(fmt::format("{}/names/{}/{}", run_dir_, network, workload), kLongestRecord));
  TRY_ASSIGN(NameRecord record, parse_name_record(network, workload, text));
  TRY(open_listeners(record));
  tell(control_header(ControlType::kRecord, 0, network, workload), text);
  records_.insert_or_assign(Key(network, workload), std::move(record));
  return {};
}

Result<void> Keeper::open_listeners(const NameRecord& record) {
  if (record.holder.pid != 0) return open_namespace(record);
  for (const IpAddress& address : record.gateways) TRY(open_gateway(record.network_id, address));
  return {};
}

Result<void> Keeper::open_namespace(const NameRecord& record) {
  for (const auto& [id, listener] : listeners_) {
    if (listener.gateway || listener.workload != record.workload_id) continue;
    if (listener.holder == record.holder) return {};
    close_listener(id);  // an earlier run's
    break;
  }
  Listener listener;
  TRY_ASSIGN(listener.process, sys::pidfd_open(record.holder.pid));
  TRY_ASSIGN(listener.sockets, open_in_namespace(record.holder));
  listener.id = ++last_listener_;
  listener.workload = record.workload_id;
  listener.holder = record.holder;
  const uint32_t id = listener.id;
  TRY(loop_.watch(listener.process.get(), EPOLLIN, [this, id](uint32_t) { on_process_end(id); }));
  tell_listener(listener);
  listeners_.emplace(id, std::move(listener));
  return {};
}

Result<void> Keeper::open_gateway(const std::string& network, const IpAddress& address) {
  for (const auto& [id, listener] : listeners_) {
    if (listener.gateway && listener.network == network && listener.address == address.str()) return {};
  }
  Listener listener;
  TRY_ASSIGN(listener.sockets, open_at_gateway(address));
  listener.id = ++last_listener_;
  listener.gateway = true;
  listener.network = network;
  listener.address = address.str();
  tell_listener(listener);
  listeners_.emplace(listener.id, std::move(listener));
  return {};
}

void Keeper::close_listener(uint32_t id) {
  const auto it = listeners_.find(id);
  if (it == listeners_.end()) return;
  if (it->second.process) loop_.forget(it->second.process.get());
  tell(control_header(ControlType::kClose, id, "", ""), "");
  listeners_.erase(it);
}

// The files stay until the workload is cleaned up, but nobody can be reached by its names any more.
void Keeper::on_process_end(uint32_t id) {
  const auto it = listeners_.find(id);
  if (it == listeners_.end()) return;
  std::vector<Key> gone;
  for (const auto& [key, record] : records_) {
    if (record.holder == it->second.holder) gone.push_back(key);
  }
  close_listener(id);
  for (const Key& key : gone) forget(key);
}

void Keeper::forget(const Key& key) {
  if (records_.erase(key) == 0) return;
  tell(control_header(ControlType::kForget, 0, key.first, key.second), "");
  close_unused();
  end_if_idle();
}

void Keeper::close_unused() {
  std::set<std::string> workloads;
  std::set<Key> gateways;
  for (const auto& [key, record] : records_) {
    if (record.holder.pid != 0) workloads.insert(key.second);
    if (record.holder.pid == 0) {
      for (const IpAddress& address : record.gateways) gateways.emplace(key.first, address.str());
    }
  }
  std::vector<uint32_t> unused;
  for (const auto& [id, listener] : listeners_) {
    const bool used = listener.gateway ? gateways.contains({listener.network, listener.address})
                                       : workloads.contains(listener.workload);
    if (!used) unused.push_back(id);
  }
  for (const uint32_t id : unused) close_listener(id);
}

// Whoever comes now finds the socket gone or its connection closed, and starts another.
void Keeper::end_if_idle() {
  if (!records_.empty() || ending_) return;
  ending_ = true;
  ::unlink((run_dir_ + "/dns.sock").c_str());
  tell(control_header(ControlType::kQuit, 0, "", ""), "");
  if (worker_) {
    loop_.forget(worker_.get());
    pollfd wait{worker_.get(), POLLIN, 0};
    if (::poll(&wait, 1, 2000) <= 0) ignore_result(sys::pidfd_signal(worker_.get(), SIGKILL));
    ::waitpid(worker_pid_, nullptr, 0);
  }
  ::unlink((run_dir_ + "/dns.worker").c_str());
  loop_.stop();
}

// ---- questions and changes

void Keeper::on_connection() {
  const UniqueFd peer(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return;
  ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &kAskTimeout, sizeof kAskTimeout);
  ::setsockopt(peer.get(), SOL_SOCKET, SO_SNDTIMEO, &kAskTimeout, sizeof kAskTimeout);
  std::array<char, kLongestDnsQuestion + 1> buffer;
  const ssize_t got = ::recv(peer.get(), buffer.data(), buffer.size(), 0);
  if (got <= 0) return;
  const std::string_view question(buffer.data(), static_cast<size_t>(got));
  std::string answer(kDnsDone);
  if (question != kDnsPing) {
    const size_t slash = question.find('/');
    if (slash == std::string_view::npos) return;
    const std::string network(question.substr(0, slash)), workload(question.substr(slash + 1));
    // The ids of a file's place; parse_name_record checks them before the file is looked at.
    if (network.find('/') != std::string::npos || workload.find('/') != std::string::npos || network == ".." ||
        workload == "..") {
      return;
    }
    auto served = serve(network, workload);
    if (!served.ok()) answer = served.error().message().substr(0, 1000);
  }
  ::send(peer.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
}

void Keeper::on_change() {
  alignas(inotify_event) std::array<char, 16384> buffer;
  bool servers_changed = false, lost = false;
  for (ssize_t got = 0; (got = ::read(changes_.get(), buffer.data(), buffer.size())) > 0;) {
    for (ssize_t at = 0; at < got;) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = event.len > 0 ? buffer.data() + at + sizeof event : "";
      at += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) lost = true;
      if ((event.mask & IN_IGNORED) != 0) watched_.erase(event.wd);
      if (resolver_watches_.contains(event.wd)) servers_changed = servers_changed || !std::strcmp(name, "resolv.conf");
      const auto network = watched_.find(event.wd);
      if (network == watched_.end() || (event.mask & IN_DELETE) == 0) continue;
      // It may have been written again meanwhile.
      if (!sys::exists(run_dir_ + "/names/" + network->second + "/" + name)) forget({network->second, name});
    }
  }
  if (lost) {
    std::vector<Key> gone;
    for (const auto& [key, record] : records_) {
      if (!sys::exists(run_dir_ + "/names/" + key.first + "/" + key.second)) gone.push_back(key);
    }
    for (const Key& key : gone) forget(key);
  }
  if (servers_changed) tell_servers();
}

// ---- the worker

Result<void> Keeper::start_worker() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return errno_error("make a socket pair");
  UniqueFd ours(pair[0]), theirs(pair[1]);
  ::setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout);
  const int buffer = 1 << 20;
  ::setsockopt(ours.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("start a worker");
  if (pid == 0) {
    const int kept = 3;  // nothing of the keeper's: its lock, its sockets
    if (::dup2(theirs.get(), kept) < 0 || ::syscall(SYS_close_range, kept + 1, ~0u, 0) != 0) ::_exit(120);
    auto loop = Loop::open();
    if (!loop.ok()) ::_exit(121);
    if (!confine_worker(run_dir_ + "/dns.empty").ok()) ::_exit(122);
    Worker worker(std::move(*loop), UniqueFd(kept), WorkerLimits{});
    ::_exit(worker.run().ok() ? 0 : 123);
  }
  theirs.reset();
  worker_pid_ = pid;
  worker_started_ms_ = now_ms();
  TRY_ASSIGN(worker_, sys::pidfd_open(pid));
  control_ = std::move(ours);
  if (const auto process = sys::process_stat(pid)) {
    TRY(sys::replace_file(run_dir_ + "/dns.worker", fmt::format("{} {}", pid, process->start_time), 0600, false));
  }
  TRY(loop_.watch(worker_.get(), EPOLLIN, [this](uint32_t) { on_worker_end(); }));
  tell_servers();
  for (const auto& [id, listener] : listeners_) tell_listener(listener);
  for (const auto& [key, record] : records_) {
    if (auto text = print_name_record(record); text.ok()) {
      tell(control_header(ControlType::kRecord, 0, key.first, key.second), *text);
    }
  }
  return {};
}

void Keeper::on_worker_end() {
  loop_.forget(worker_.get());
  ::waitpid(worker_pid_, nullptr, 0);
  worker_.reset();
  control_.reset();
  const int64_t lived = now_ms() - worker_started_ms_;
  const auto start = [this] {
    auto started = start_worker();
    if (!started.ok()) loop_.stop();  // the next command starts all anew
  };
  if (lived >= kSoonMs) return start();
  loop_.after(kSoonMs - lived, start);
}

void Keeper::tell(const ControlHeader& header, std::string_view text, const ListenSockets* sockets) {
  if (!control_) return;
  const auto sent = sockets == nullptr
                        ? send_control(control_.get(), header, text)
                        : send_control(control_.get(), header, text, sockets->udp.get(), sockets->tcp.get());
  // One that takes nothing is replaced; it may also have ended already.
  if (!sent.ok() && worker_) ignore_result(sys::pidfd_signal(worker_.get(), SIGKILL));
}

void Keeper::tell_listener(const Listener& listener) {
  const ControlType type = listener.gateway ? ControlType::kListenGateway : ControlType::kListenNamespace;
  tell(control_header(type, listener.id, listener.network, listener.workload), listener.address, &listener.sockets);
}

void Keeper::tell_servers() { tell(control_header(ControlType::kServers, 0, "", ""), host_servers()); }

}  // namespace hull::net::dns
