#include "net/names.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "base/units.h"
#include "net/names_socket.h"
#include "sys/daemon.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::net {
namespace {

constexpr size_t kLongestRecord = 128 << 10;
constexpr int kAnswerTimeoutMs = 10'000;
constexpr int kTries = 4;  // folders go with their last endpoint
/// A server may be ending, with its last endpoint, at the moment when we ask: it holds its lock a little longer.
constexpr int kStarts = 300, kBetweenStartsMs = 10;

bool is_id(std::string_view id) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-'; };
  return !id.empty() && id.size() <= 128 && id != "." && id != ".." && std::all_of(id.begin(), id.end(), fits);
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 253 &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
}

Result<void> check_ids(std::string_view network_id, std::string_view workload_id) {
  if (!is_id(network_id)) {
    return errorf(ErrorKind::kInvalid, "names: '{}' is no network id", network_id.substr(0, 40));
  }
  if (!is_id(workload_id)) {
    return errorf(ErrorKind::kInvalid, "names: '{}' is no workload id", workload_id.substr(0, 40));
  }
  return {};
}

std::string names_dir(std::string_view run_dir) { return std::string(run_dir) + "/names"; }

Result<void> check(const NameRecord& record) {
  TRY(check_ids(record.network_id, record.workload_id));
  if (record.names.empty() || record.names.size() > kMostNames) {
    return errorf(ErrorKind::kInvalid, "workload {} has {} names on network {}; 1 to {} are possible",
                  record.workload_id, record.names.size(), record.network_name, kMostNames);
  }
  if (record.addresses.size() > kMostEndpointAddresses || record.gateways.size() > kMostEndpointAddresses ||
      record.servers.size() > kMostDnsServers) {
    return errorf(ErrorKind::kInvalid, "workload {} has too many addresses or DNS servers on network {}",
                  record.workload_id, record.network_name);
  }
  if (!is_name(record.network_name)) {
    return errorf(ErrorKind::kInvalid, "'{}' can't be the name of a network", record.network_name.substr(0, 80));
  }
  for (const std::string& name : record.names) {
    if (!is_name(name)) {
      return errorf(ErrorKind::kInvalid,
                    "'{}' can't be a name on a network: 1 to 253 printable characters without blanks are possible",
                    name.substr(0, 80));
    }
  }
  for (const std::string& server : record.servers) {
    if (auto address = IpAddress::parse(server); !address.ok()) {
      return errorf(ErrorKind::kInvalid, "DNS server {} of workload {}: not an IP address", server.substr(0, 80),
                    record.workload_id);
    } else if (address->is_loopback()) {
      return errorf(
          ErrorKind::kUnsupported,
          "--dns {}: on a user-defined network the host asks the servers for the container, so they must have "
          "addresses that the host can reach",
          server);
    }
  }
  return {};
}

Result<bool> parse_bool(std::string_view text) {
  if (text == "yes") return true;
  if (text == "no") return false;
  return errorf(ErrorKind::kCorrupt, "'{}' is neither yes nor no", text.substr(0, 40));
}

Result<NamespaceHolder> parse_holder(std::string_view text) {
  NamespaceHolder out;
  const size_t first = text.find(' ');
  const size_t second = first == std::string_view::npos ? first : text.find(' ', first + 1);
  if (second == std::string_view::npos) return errorf(ErrorKind::kCorrupt, "a namespace is a pid, a time, an inode");
  TRY_ASSIGN(const int64_t pid, parse_int(text.substr(0, first), 1, 1 << 22));
  TRY_ASSIGN(const int64_t start, parse_int(text.substr(first + 1, second - first - 1), 0, INT64_MAX));
  TRY_ASSIGN(const int64_t inode, parse_int(text.substr(second + 1), 1, INT64_MAX));
  out.pid = static_cast<pid_t>(pid);
  out.start_time = static_cast<uint64_t>(start);
  out.inode = static_cast<uint64_t>(inode);
  return out;
}

Result<void> parse_line(std::string_view key, std::string_view value, NameRecord* record) {
  if (key == "network") {
    record->network_name = value;
  } else if (key == "name") {
    record->names.emplace_back(value);
  } else if (key == "address" || key == "gateway") {
    TRY_ASSIGN(const IpAddress address, IpAddress::parse(value));
    (key == "address" ? record->addresses : record->gateways).push_back(address);
  } else if (key == "namespace") {
    TRY_ASSIGN(record->holder, parse_holder(value));
  } else if (key == "forward") {
    TRY_ASSIGN(record->forward, parse_bool(value));
  } else if (key == "server") {
    record->servers.emplace_back(value);
  } else {
    return errorf(ErrorKind::kCorrupt, "unknown key '{}'", key.substr(0, 40));
  }
  return {};
}

// ---- asking hull-dns

/// Connected, or an invalid descriptor when nobody listens.
Result<UniqueFd> connect_server(const std::string& run_dir) {
  TRY_ASSIGN(const UniqueFd folder, sys::open(run_dir, O_PATH | O_DIRECTORY));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("make a socket");
  const sockaddr_un address = dns_socket_address(folder.get());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return UniqueFd();
    return errnof("connect to hull-dns");
  }
  return socket;
}

Result<void> start_server(const DnsPlace& place) {
  return sys::start_daemon({place.program, "--run-dir", place.run_dir}).context("start " + place.program);
}

enum class Asked : uint8_t { kDone, kNobody };

/// Sends the endpoint's name and waits for the word. kNobody: nobody listens, or it went away while we waited.
Result<Asked> ask_server(const DnsPlace& place, std::string_view question) {
  TRY_ASSIGN(const UniqueFd socket, connect_server(place.run_dir));
  if (!socket) return Asked::kNobody;
  if (::send(socket.get(), question.data(), question.size(), MSG_NOSIGNAL) < 0) return Asked::kNobody;
  pollfd wait{socket.get(), POLLIN, 0};
  int ready = -1;
  do {
    ready = ::poll(&wait, 1, kAnswerTimeoutMs);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0)
    return errorf(ErrorKind::kUnavailable, "hull-dns did not answer within {} s", kAnswerTimeoutMs / 1000);
  char answer[1024];
  const ssize_t got = ::recv(socket.get(), answer, sizeof answer, 0);
  if (got <= 0) return Asked::kNobody;
  const std::string_view text(answer, static_cast<size_t>(got));
  if (text == kDnsDone) return Asked::kDone;
  return errorf(ErrorKind::kConflict, "hull-dns: {}", text);
}

Result<void> ask_or_start(const DnsPlace& place, std::string_view question) {
  for (int i = 0; i < kStarts; ++i) {
    TRY_ASSIGN(const Asked asked, ask_server(place, question));
    if (asked == Asked::kDone) return {};
    if (i > 1) ::poll(nullptr, 0, kBetweenStartsMs);
    TRY(start_server(place));
  }
  return errorf(ErrorKind::kUnavailable,
                "hull-dns ends whenever it is started; see what `{} --run-dir {} --foreground` says", place.program,
                place.run_dir);
}

std::vector<std::string> entries_of(const std::string& path) {
  std::vector<std::string> out;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder) return out;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (is_id(entry->d_name) && entry->d_name[0] != '.') out.emplace_back(entry->d_name);
  }
  return out;
}

}  // namespace

sockaddr_un dns_socket_address(int run_dir_fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Through a descriptor: the folder's name may be longer than sun_path.
  const std::string path = fmt::format("/proc/self/fd/{}/dns.sock", run_dir_fd);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<NamespaceHolder> namespace_of(pid_t pid) {
  NamespaceHolder out;
  out.pid = pid;
  const auto stat_line = sys::process_stat(pid);
  struct stat info{};
  if (!stat_line || ::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &info) != 0) {
    return errorf(ErrorKind::kNotFound, "the network namespace of process {}: it has ended", pid);
  }
  out.start_time = stat_line->start_time;
  out.inode = info.st_ino;
  return out;
}

Result<std::string> print_name_record(const NameRecord& record) {
  TRY(check(record));
  std::string out = fmt::format("network {}\n", record.network_name);
  for (const std::string& name : record.names) out += fmt::format("name {}\n", name);
  for (const IpAddress& address : record.addresses) out += fmt::format("address {}\n", address.str());
  if (record.holder.pid != 0) {
    out += fmt::format("namespace {} {} {}\n", record.holder.pid, record.holder.start_time, record.holder.inode);
  }
  for (const IpAddress& address : record.gateways) out += fmt::format("gateway {}\n", address.str());
  if (!record.forward) out += "forward no\n";
  for (const std::string& server : record.servers) out += fmt::format("server {}\n", server);
  return out;
}

Result<NameRecord> parse_name_record(std::string_view network_id, std::string_view workload_id, std::string_view text) {
  NameRecord out;
  out.network_id = network_id;
  out.workload_id = workload_id;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    const size_t blank = line.find(' ');
    if (blank == std::string_view::npos) return errorf(ErrorKind::kCorrupt, "names: a line without a value");
    auto parsed = parse_line(line.substr(0, blank), line.substr(blank + 1), &out);
    if (!parsed.ok()) return std::move(parsed).error().as(ErrorKind::kCorrupt).context("names");
    if (out.names.size() > kMostNames || out.addresses.size() > kMostEndpointAddresses) break;
  }
  auto checked = check(out);
  if (!checked.ok()) return std::move(checked).error().as(ErrorKind::kCorrupt);
  return out;
}

Result<void> announce_names(const DnsPlace& place, const NameRecord& record) {
  TRY_ASSIGN(const std::string text, print_name_record(record));
  const std::string folder = names_dir(place.run_dir) + "/" + record.network_id;
  // The last endpoint to leave removes the folder, perhaps between our two steps.
  Result<void> written;
  for (int i = 0; i < kTries; ++i) {
    TRY(sys::make_dirs(folder));
    written = sys::replace_file(folder + "/" + record.workload_id, text, 0600, false);
    if (written.ok() || written.error().kind() != ErrorKind::kNotFound) break;
  }
  TRY(std::move(written));
  auto served = ask_or_start(place, record.network_id + "/" + record.workload_id);
  if (!served.ok()) ignore_result(withdraw_names(place, record.network_id, record.workload_id));
  return served;
}

Result<void> withdraw_names(const DnsPlace& place, std::string_view network_id, std::string_view workload_id) {
  TRY(check_ids(network_id, workload_id));
  const std::string folder = fmt::format("{}/{}", names_dir(place.run_dir), network_id);
  const std::string path = fmt::format("{}/{}", folder, workload_id);
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return errnof("remove {}", path);
  }
  ::rmdir(folder.c_str());  // when it was the last
  // The worker of a keeper that was killed sees nothing of this, and its sockets keep the namespace: a new keeper ends
  // it. A clean end leaves no such file.
  if (!sys::exists(place.run_dir + "/dns.worker")) return {};
  {
    const auto lock = sys::FileLock::acquire(place.run_dir + "/dns.lock", true, false);
    if (!lock.ok()) return {};
  }
  return start_server(place);
}

Result<void> ensure_dns(const DnsPlace& place) {
  const std::string root = names_dir(place.run_dir);
  for (const std::string& network : entries_of(root)) {
    if (entries_of(root + "/" + network).empty()) continue;
    return ask_or_start(place, kDnsPing);
  }
  return {};
}

Result<std::vector<NameRecord>> list_name_records(const std::string& run_dir) {
  std::vector<NameRecord> out;
  const std::string root = names_dir(run_dir);
  for (const std::string& network : entries_of(root)) {
    for (const std::string& workload : entries_of(root + "/" + network)) {
      auto text = sys::read_file(root + "/" + network + "/" + workload, kLongestRecord);
      if (!text.ok()) continue;
      auto record = parse_name_record(network, workload, *text);
      if (record.ok()) out.push_back(std::move(*record));
    }
  }
  return out;
}

std::string make_dns_resolv_conf(const std::vector<std::string>& nameservers, std::string_view host_text,
                                 const DnsFlags& flags) {
  // As for a container of its own network, but for the servers; Docker adds ndots:0 so that bare names are asked as
  // they are, unless the user says otherwise.
  DnsFlags ours = flags;
  ours.servers = nameservers;
  std::string out = make_resolv_conf(host_text, ours, ResolvFor::kOwnNetwork, true);
  if (out.find("ndots:") != std::string::npos) return out;
  const size_t options = out.starts_with("options ") ? 0 : out.find("\noptions ");
  if (options == std::string::npos) return out + "options ndots:0\n";
  out.insert(out.find('\n', options + 1), " ndots:0");
  return out;
}

}  // namespace hull::net
