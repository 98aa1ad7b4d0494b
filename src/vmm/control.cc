#include "vmm/control.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <span>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"
#include "base/units.h"

namespace hull::vmm {

namespace {
constexpr size_t kMostInput = kHttpHeadBytes + kHttpBodyBytes;
constexpr size_t kMostOutput = 256 << 10;  // a client that reads slower than this is dropped

std::string error_document(std::string_view message) {
  JsonWriter json;
  json.object([&] { json.member("error", message); });
  return std::move(json).take();
}

int status_of(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kInvalid:
      return 400;
    case ErrorKind::kNotFound:
      return 404;
    case ErrorKind::kUnsupported:
      return 501;
    default:
      return 409;
  }
}

/// As recv(2); descriptors that come along are appended. *lost: there were more than this process may take.
ssize_t receive_with_descriptors(int socket, std::span<char> buffer, std::vector<UniqueFd>* fds, bool* lost) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * ControlServer::kMostDescriptors)> control{};
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      fds->emplace_back(fd);
    }
  }
  *lost = (message.msg_flags & MSG_CTRUNC) != 0;
  return got;
}

Result<uint64_t> read_balloon(const std::string& body) {
  uint64_t bytes = 0;
  bool given = false;
  JsonReader reader(body);
  reader.object([&](std::string_view key) {
    if (key != "bytes") {
      reader.fail("is not a member here");
      return true;
    }
    given = true;
    return reader.value(bytes);
  });
  TRY(reader.finish());
  if (!given) return errorf(ErrorKind::kInvalid, "bytes: is missing");
  return bytes;
}

/// Binds the path; a leftover of a dead process is replaced.
Result<UniqueFd> bind_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return errorf(ErrorKind::kInvalid, "api_socket: the path {} is longer than {} bytes", path,
                  sizeof(address.sun_path) - 1);
  }
  path.copy(address.sun_path, path.size());
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_error("make the control socket");
  const mode_t before = ::umask(0177);
  int done = ::bind(fd.get(), name, sizeof(address));
  if (done != 0 && errno == EADDRINUSE) {
    if (::connect(fd.get(), name, sizeof(address)) == 0) {
      ::umask(before);
      return errorf(ErrorKind::kConflict, "api_socket: another process listens at {}", path);
    }
    ::unlink(path.c_str());
    done = ::bind(fd.get(), name, sizeof(address));
  }
  const int error = errno;
  ::umask(before);
  if (done != 0) return Error::from_errno(error, fmt::format("bind the control socket {}", path));
  if (::listen(fd.get(), static_cast<int>(ControlServer::kMostClients)) != 0) return errnof("listen at {}", path);
  return fd;
}
}  // namespace

Result<ControlServer> ControlServer::listen(const std::string& path, int epoll, ControlHandlers handlers) {
  TRY_ASSIGN(UniqueFd fd, bind_socket(path));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kListenKey}};
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd.get(), &event) != 0) return errno_error("watch the control socket");
  return ControlServer(std::move(fd), epoll, std::move(handlers));
}

void ControlServer::on_event(uint64_t key, uint32_t events) {
  if (key == kListenKey) return accept();
  const auto found = clients_.find(key);
  if (found != clients_.end()) serve(key, found->second, events);
}

void ControlServer::accept() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || clients_.size() >= kMostClients) return;
  const uint64_t key = next_key_++;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = key}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd.get(), &event) != 0) return;
  clients_[key].fd = std::move(fd);
}

/// False when the client is to be dropped.
bool ControlServer::receive(Client& client) {
  char buffer[4096];
  bool lost = false;
  const ssize_t got = receive_with_descriptors(client.fd.get(), buffer, &client.fds, &lost);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  if (client.streams || client.closing) {  // nothing more is expected of it
    client.fds.clear();
    return true;
  }
  if (lost || client.fds.size() > kMostDescriptors) {
    client.fds.clear();
    client.output += http_answer(
        400, error_document(fmt::format("more than {} descriptors came with one request", kMostDescriptors)), false);
    client.closing = true;
    return true;
  }
  client.input.append(buffer, static_cast<size_t>(got));
  if (client.input.size() > kMostInput) return false;
  while (!client.streams && !client.closing) {
    const HttpParse parse = parse_http(client.input);
    if (parse.state == HttpParse::State::kMore) return true;
    if (parse.state == HttpParse::State::kBad) {
      client.output += http_answer(parse.status, error_document("this is no request that is understood here"), false);
      client.closing = true;
      return true;
    }
    client.input.erase(0, parse.used);
    answer(client, parse.request);
    client.fds.clear();
  }
  return true;
}

void ControlServer::serve(uint64_t key, Client& client, uint32_t events) {
  bool lives = true;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) lives = receive(client);
  if (lives) lives = flush(key, client);
  if (!lives) clients_.erase(key);
}

/// False when the client is to be dropped.
bool ControlServer::flush(uint64_t key, Client& client) {
  while (!client.output.empty()) {
    const ssize_t sent = ::send(client.fd.get(), client.output.data(), client.output.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    client.output.erase(0, static_cast<size_t>(sent));
  }
  if (client.output.empty() && client.closing) return false;
  if (client.output.size() > kMostOutput) return false;
  const bool wants_out = !client.output.empty();
  if (wants_out != client.watches_out) {
    epoll_event event{.events = EPOLLIN | (wants_out ? EPOLLOUT : 0u), .data = {.u64 = key}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, client.fd.get(), &event);
    client.watches_out = wants_out;
  }
  return true;
}

void ControlServer::answer(Client& client, const HttpRequest& request) {
  client.closing = !request.keep_alive;
  const auto say = [&](int status, std::string_view document) {
    client.output += http_answer(status, document, request.keep_alive);
  };
  if (request.method == "GET" && request.path == "/stats") return say(200, handlers_.stats());
  if (request.method == "GET" && request.path == "/events") {
    client.streams = true;
    client.closing = false;
    client.output += http_stream_head();
    return;
  }
  bool known = false;
  const std::string done = put(client, request, &known);
  if (known) {
    client.output += done;
    return;
  }
  const std::string_view path = request.path;
  if (request.method == "GET" && path == "/devices") return say(200, handlers_.devices());
  if (const std::string answered = change_devices(client, request); !answered.empty()) {
    client.output += answered;
    return;
  }
  say(404,
      error_document(fmt::format("{} {}: there is no such request; hull-vmm(8) lists them", request.method, path)));
}

/// PUT /disks, PUT /nets, DELETE /devices/N; empty for other requests.
std::string ControlServer::change_devices(Client& client, const HttpRequest& request) {
  const auto failed = [&](const Error& error) {
    return http_answer(status_of(error), error_document(error.message()), request.keep_alive);
  };
  constexpr std::string_view kDevice = "/devices/";
  if (request.method == "DELETE" && request.path.starts_with(kDevice)) {
    const Result<int64_t> index = parse_int(std::string_view(request.path).substr(kDevice.size()), 0, INT32_MAX);
    if (!index.ok()) return failed(index.error());
    const Result<void> done = handlers_.remove_device(static_cast<size_t>(*index));
    return done.ok() ? http_answer(204, {}, request.keep_alive) : failed(done.error());
  }
  if (request.method != "PUT" || (request.path != "/disks" && request.path != "/nets")) return {};
  const auto& add = request.path == "/disks" ? handlers_.add_disk : handlers_.add_net;
  const Result<size_t> made = add(request.body, std::move(client.fds));
  if (!made.ok()) return failed(made.error());
  JsonWriter json;
  json.object([&] { json.member("device", uint64_t{*made}); });
  return http_answer(200, std::move(json).take(), request.keep_alive);
}

std::string ControlServer::put(Client&, const HttpRequest& request, bool* known) {
  if (request.method != "PUT") return {};
  *known = true;
  const std::string good = http_answer(204, {}, request.keep_alive);
  if (request.path == "/pause") {
    handlers_.pause();
    return good;
  }
  if (request.path == "/resume") {
    if (const Result<void> done = handlers_.resume(); !done.ok()) {
      return http_answer(status_of(done.error()), error_document(done.error().message()), request.keep_alive);
    }
    return good;
  }
  if (request.path == "/shutdown") {
    handlers_.press_power_button();
    return good;
  }
  if (request.path == "/balloon") {
    Result<uint64_t> bytes = read_balloon(request.body);
    Result<void> done = bytes.ok() ? handlers_.set_balloon(*bytes) : Result<void>(bytes.error());
    if (done.ok()) return good;
    return http_answer(status_of(done.error()), error_document(done.error().message()), request.keep_alive);
  }
  *known = false;
  return {};
}

void ControlServer::tell(std::string_view event, std::string_view detail) {
  JsonWriter json;
  json.object([&] {
    json.member("event", event);
    json.member_opt("detail", detail);
  });
  const std::string line = std::move(json).take() + "\n";
  for (auto at = clients_.begin(); at != clients_.end();) {
    Client& client = at->second;
    if (client.streams) client.output += line;
    at = client.streams && !flush(at->first, client) ? clients_.erase(at) : std::next(at);
  }
}

void ControlServer::close() {
  for (auto& [key, client] : clients_) flush(key, client);
  clients_.clear();
}

}  // namespace hull::vmm
