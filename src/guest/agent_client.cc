#include "guest/agent_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

constexpr std::string_view kService = "hull.guest.Agent";

Result<void> wait_for(int fd, short events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd watched{fd, events, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30)));
    if (ready > 0) return {};
    if (ready == 0) return errorf(ErrorKind::kTimeout, "the guest did not answer within the time allowed");
    if (errno != EINTR) return errno_error("wait for the guest");
  }
}

Result<void> write_line(int fd, std::string_view line, Deadline deadline) {
  while (!line.empty()) {
    const ssize_t sent = ::send(fd, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      line.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      TRY(wait_for(fd, POLLOUT, deadline));
    } else if (errno != EINTR) {
      return errno_error("write to the guest").as(ErrorKind::kUnavailable);
    }
  }
  return {};
}

/// One line of at most 255 bytes, without its newline. What follows the line stays in the socket.
Result<std::string> read_line(int fd, Deadline deadline) {
  constexpr size_t kLongest = 255;
  std::string line;
  while (true) {
    char buffer[kLongest + 1];
    const ssize_t seen = ::recv(fd, buffer, sizeof buffer - line.size(), MSG_DONTWAIT | MSG_PEEK);
    if (seen == 0) return errorf(ErrorKind::kUnavailable, "the guest closed the connection");
    if (seen < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK)
        return errno_error("read from the guest").as(ErrorKind::kUnavailable);
      TRY(wait_for(fd, POLLIN, deadline));
      continue;
    }
    const void* end = std::memchr(buffer, '\n', static_cast<size_t>(seen));
    const size_t take =
        end == nullptr ? static_cast<size_t>(seen) : static_cast<size_t>(static_cast<const char*>(end) - buffer) + 1;
    if (::recv(fd, buffer, take, MSG_DONTWAIT) != static_cast<ssize_t>(take)) {
      return errorf(ErrorKind::kUnavailable, "the connection to the guest broke");
    }
    line.append(buffer, take);
    if (end != nullptr) {
      line.pop_back();
      return line;
    }
    if (line.size() > kLongest) return errorf(ErrorKind::kCorrupt, "the guest answered a line without end");
  }
}

Result<UniqueFd> connect_socket(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string name = path;
  UniqueFd folder;
  if (name.size() >= sizeof address.sun_path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return errorf(ErrorKind::kInvalid, "{}: the name is too long", path);
    TRY_ASSIGN(folder, sys::open(path.substr(0, slash + 1), O_PATH | O_DIRECTORY));
    name = fmt::format("/proc/self/fd/{}/{}", folder.get(), path.substr(slash + 1));
    if (name.size() >= sizeof address.sun_path) return errorf(ErrorKind::kInvalid, "{}: the name is too long", path);
  }
  std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errnof("connect to the machine's socket {}", path).as(ErrorKind::kUnavailable);
  }
  return socket;
}

}  // namespace

Result<UniqueFd> connect_vsock(const std::string& socket_path, uint32_t port, Deadline deadline) {
  TRY_ASSIGN(UniqueFd socket, connect_socket(socket_path));
  TRY(write_line(socket.get(), fmt::format("CONNECT {}\n", port), deadline));
  auto answer = read_line(socket.get(), deadline);
  if (!answer.ok()) return std::move(answer).error().context(fmt::format("connect to the guest's port {}", port));
  if (!answer->starts_with("OK ")) {
    return errorf(ErrorKind::kUnavailable, "connect to the guest's port {}: refused", port);
  }
  return socket;
}

Result<void> name_stream(int connection, std::string_view token, int stream, Deadline deadline) {
  TRY(write_line(connection, fmt::format("{} {}\n", token, stream), deadline));
  auto answer = read_line(connection, deadline);
  if (!answer.ok()) return std::move(answer).error().context(fmt::format("open stream {} of the guest", stream));
  if (*answer != "OK") return errorf(ErrorKind::kConflict, "open stream {} of the guest: {}", stream, *answer);
  return {};
}

Result<UniqueFd> open_stream(const std::string& socket_path, std::string_view token, int stream, Deadline deadline) {
  TRY_ASSIGN(UniqueFd connection, connect_vsock(socket_path, kStreamPort, deadline));
  TRY(name_stream(connection.get(), token, stream, deadline));
  return connection;
}

Result<std::string> make_stream_token() {
  unsigned char bytes[16];
  if (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) return errno_error("getrandom");
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

Result<AgentClient> AgentClient::connect(const std::string& socket_path, Deadline deadline) {
  TRY_ASSIGN(UniqueFd connection, connect_vsock(socket_path, kAgentPort, deadline));
  return AgentClient(std::move(connection));
}

template <typename Response, typename Request>
Result<Response> AgentClient::call(std::string_view method, const Request& request, Deadline deadline) {
  TRY_ASSIGN(const std::string payload, client_.call(kService, method, request.SerializeAsString(), deadline));
  Response response;
  if (!response.ParseFromString(payload)) {
    return errorf(ErrorKind::kCorrupt, "the guest's answer to {} is malformed", method);
  }
  return response;
}

template <typename Response>
Result<std::optional<Response>> AgentClient::finish() {
  if (pending_ == 0) return errorf(ErrorKind::kInternal, "no call was begun");
  auto payload = client_.receive(pending_);
  if (payload.ok() && !payload->has_value()) return std::optional<Response>();
  pending_ = 0;
  if (!payload.ok()) return std::move(payload).error();
  Response response;
  if (!response.ParseFromString(**payload)) return errorf(ErrorKind::kCorrupt, "the guest's answer is malformed");
  return std::optional<Response>(std::move(response));
}

Result<void> AgentClient::configure(const proto::ConfigureRequest& request, Deadline deadline) {
  TRY(call<proto::ConfigureResponse>("Configure", request, deadline));
  return {};
}

Result<uint32_t> AgentClient::create(const proto::CreateRequest& request, Deadline deadline) {
  TRY_ASSIGN(const auto response, call<proto::CreateResponse>("Create", request, deadline));
  return response.pid();
}

Result<void> AgentClient::start(Deadline deadline) {
  TRY(call<proto::StartResponse>("Start", proto::StartRequest(), deadline));
  return {};
}

Result<uint32_t> AgentClient::exec(const proto::ExecRequest& request, Deadline deadline) {
  TRY_ASSIGN(const auto response, call<proto::ExecResponse>("Exec", request, deadline));
  return response.pid();
}

Result<void> AgentClient::signal(std::string_view exec_id, int signal, bool all, Deadline deadline) {
  proto::SignalRequest request;
  request.set_exec_id(std::string(exec_id));
  request.set_signal(signal);
  request.set_all(all);
  TRY(call<proto::SignalResponse>("Signal", request, deadline));
  return {};
}

Result<proto::WaitResponse> AgentClient::wait(std::string_view exec_id, Deadline deadline) {
  proto::WaitRequest request;
  request.set_exec_id(std::string(exec_id));
  return call<proto::WaitResponse>("Wait", request, deadline);
}

Result<void> AgentClient::resize(std::string_view exec_id, uint32_t rows, uint32_t columns, Deadline deadline) {
  proto::ResizeRequest request;
  request.set_exec_id(std::string(exec_id));
  request.mutable_size()->set_rows(rows);
  request.mutable_size()->set_columns(columns);
  TRY(call<proto::ResizeResponse>("Resize", request, deadline));
  return {};
}

Result<void> AgentClient::close_stdin(std::string_view exec_id, uint64_t after_bytes, Deadline deadline) {
  proto::CloseStdinRequest request;
  request.set_exec_id(std::string(exec_id));
  request.set_after_bytes(after_bytes);
  TRY(call<proto::CloseStdinResponse>("CloseStdin", request, deadline));
  return {};
}

Result<proto::ProcessesResponse> AgentClient::processes(Deadline deadline) {
  return call<proto::ProcessesResponse>("Processes", proto::ProcessesRequest(), deadline);
}

Result<proto::StatsResponse> AgentClient::stats(Deadline deadline) {
  return call<proto::StatsResponse>("Stats", proto::StatsRequest(), deadline);
}

Result<void> AgentClient::update(std::string_view resources_json, Deadline deadline) {
  proto::UpdateRequest request;
  request.set_resources(std::string(resources_json));
  TRY(call<proto::UpdateResponse>("Update", request, deadline));
  return {};
}

Result<void> AgentClient::pause(Deadline deadline) {
  TRY(call<proto::PauseResponse>("Pause", proto::PauseRequest(), deadline));
  return {};
}

Result<void> AgentClient::resume(Deadline deadline) {
  TRY(call<proto::ResumeResponse>("Resume", proto::ResumeRequest(), deadline));
  return {};
}

Result<proto::StateResponse> AgentClient::state(Deadline deadline) {
  return call<proto::StateResponse>("State", proto::StateRequest(), deadline);
}

Result<proto::FileStatResponse> AgentClient::file_stat(std::string_view path, Deadline deadline) {
  proto::FileStatRequest request;
  request.set_path(std::string(path));
  return call<proto::FileStatResponse>("FileStat", request, deadline);
}

Result<void> AgentClient::begin_files(const proto::BeginFilesRequest& request, Deadline deadline) {
  TRY(call<proto::BeginFilesResponse>("BeginFiles", request, deadline));
  return {};
}

Result<void> AgentClient::end_files(const proto::EndFilesRequest& request, Deadline deadline) {
  TRY(call<proto::EndFilesResponse>("EndFiles", request, deadline));
  return {};
}

Result<proto::PingResponse> AgentClient::ping(Deadline deadline) {
  return call<proto::PingResponse>("Ping", proto::PingRequest(), deadline);
}

Result<void> AgentClient::set_time(int64_t time_ns, Deadline deadline) {
  proto::SetTimeRequest request;
  request.set_time_ns(time_ns);
  TRY(call<proto::SetTimeResponse>("SetTime", request, deadline));
  return {};
}

Result<void> AgentClient::shutdown(Deadline deadline) {
  auto done = call<proto::ShutdownResponse>("Shutdown", proto::ShutdownRequest(), deadline);
  if (!done.ok() && done.error().kind() != ErrorKind::kUnavailable) return std::move(done).error();
  return {};
}

Result<void> AgentClient::begin_wait(std::string_view exec_id, Deadline deadline) {
  proto::WaitRequest request;
  request.set_exec_id(std::string(exec_id));
  TRY_ASSIGN(pending_, client_.send(kService, "Wait", request.SerializeAsString(), deadline));
  return {};
}

Result<std::optional<proto::WaitResponse>> AgentClient::finish_wait() { return finish<proto::WaitResponse>(); }

Result<void> AgentClient::begin_ping(Deadline deadline) {
  TRY_ASSIGN(pending_, client_.send(kService, "Ping", proto::PingRequest().SerializeAsString(), deadline));
  return {};
}

Result<std::optional<proto::PingResponse>> AgentClient::finish_ping() { return finish<proto::PingResponse>(); }

}  // namespace hull::guest
