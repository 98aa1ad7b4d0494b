#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "api/problem.h"
#include "api/request.h"
#include "api/websocket.h"
#include "base/error_format.h"

namespace hull::api {
namespace {

/// How long a client may leave a whole answer lying.
constexpr int kAnswerTimeoutMs = 60'000;
constexpr size_t kLargestChunk = 1 << 20;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

/// A thread that does nothing but watch the socket. It ends the process rather than to tell anybody: state is on disk,
/// and a call of the engine may be killed at any moment.
struct Response::Watch {
  explicit Watch(int socket) : stop(::eventfd(0, EFD_CLOEXEC)) {
    if (!stop) return;
    thread = std::thread([socket, stop_fd = stop.get()] {
      std::array<pollfd, 2> waits = {pollfd{socket, POLLRDHUP, 0}, pollfd{stop_fd, POLLIN, 0}};
      for (;;) {
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno == EINTR) continue;
        if (waits[1].revents != 0) return;
        if (waits[0].revents != 0) ::_exit(0);
      }
    });
  }
  ~Watch() {
    const uint64_t one = 1;
    if (stop && ::write(stop.get(), &one, sizeof one) == sizeof one && thread.joinable()) thread.join();
  }
  UniqueFd stop;
  std::thread thread;
};

void Response::json(int status, std::string body) { text(status, "application/json", std::move(body)); }

void Response::text(int status, std::string_view content_type, std::string body) {
  status_ = status;
  content_type_ = std::string(content_type);
  body_ = std::move(body);
  ready_ = true;
}

void Response::empty(int status) { text(status, "", ""); }

std::string Response::head_text(int status, std::string_view content_type, std::optional<size_t> length, bool chunked) {
  std::string out =
      fmt::format("HTTP/1.1 {} {}\r\nApi-Version: {}\r\n", status, reason_of(status), to_string(kNewestVersion));
  if (!content_type.empty()) out += fmt::format("Content-Type: {}\r\n", content_type);
  out += "Docker-Experimental: false\r\nOstype: linux\r\nServer: Hull/" HULL_VERSION " (linux)\r\n";
  for (const auto& [name, value] : headers_) {
    // A header that a handler makes of a client's text must not begin another one.
    if (value.find_first_of("\r\n") != std::string::npos) continue;
    out += fmt::format("{}: {}\r\n", name, value);
  }
  if (length && status != 204 && status != 304) out += fmt::format("Content-Length: {}\r\n", *length);
  if (chunked) out += "Transfer-Encoding: chunked\r\n";
  if (!request_.head_->keep_alive && status != 101) out += "Connection: close\r\n";
  return out;
}

Result<void> Response::send_whole(int status, std::string_view content_type, std::string_view body) {
  started_ = true;
  status_ = status;
  std::string out = head_text(status, content_type, body.size(), false) + "\r\n";
  if (request_.method_ != "HEAD") out += body;
  return stream_.write(out, kAnswerTimeoutMs);
}

void Response::watch_client() {
  if (!watch_) watch_ = std::make_shared<Watch>(stream_.fd());
}

void Response::stop_watching() { watch_.reset(); }

Result<void> Response::start_stream(int status, std::string_view content_type, bool watch) {
  started_ = streaming_ = true;
  status_ = status;
  chunked_ = request_.head_->version == 11;
  if (on_start_) on_start_();
  TRY(stream_.write(head_text(status, content_type, {}, chunked_) + "\r\n", kAnswerTimeoutMs));
  if (watch) watch_client();
  return {};
}

Result<void> Response::write(std::string_view data) {
  if (request_.method_ == "HEAD") return {};
  while (!data.empty()) {
    const std::string_view piece = data.substr(0, kLargestChunk);
    data.remove_prefix(piece.size());
    Result<void> sent;
    if (!chunked_) {
      sent = stream_.write(piece, -1);
    } else {
      std::string out = fmt::format("{:x}\r\n", piece.size());
      out.append(piece).append("\r\n");
      sent = stream_.write(out, -1);
    }
    if (!sent.ok()) {
      broken_ = true;
      return sent;
    }
  }
  return {};
}

Result<Stream*> Response::hijack(bool multiplexed, std::string* early) {
  // The rest of the body, if there is one, is the client's first input only after an upgrade; before it, it is body.
  char ignored[4096];
  for (;;) {
    TRY_ASSIGN(const size_t got, request_.read_body(ignored, sizeof ignored));
    if (got == 0) break;
  }
  started_ = taken_over_ = true;
  const char* const type = multiplexed && request_.at_least(42) ? "application/vnd.docker.multiplexed-stream"
                                                                : "application/vnd.docker.raw-stream";
  const bool upgrade = lower(request_.header("connection")).find("upgrade") != std::string::npos &&
                       lower(request_.header("upgrade")) == "tcp";
  std::string out;
  if (upgrade) {
    status_ = 101;
    out = fmt::format("HTTP/1.1 101 UPGRADED\r\nContent-Type: {}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n", type);
    out += fmt::format("Api-Version: {}\r\nDocker-Experimental: false\r\nOstype: linux\r\n\r\n",
                       to_string(kNewestVersion));
  } else {
    status_ = 200;
    out = fmt::format("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n", type);
  }
  if (on_start_) on_start_();
  TRY(stream_.write(out, kAnswerTimeoutMs));
  *early = request_.reader_->take_rest();
  return &stream_;
}

Result<Stream*> Response::accept_websocket(std::string* early) {
  if (lower(request_.header("connection")).find("upgrade") == std::string::npos ||
      lower(request_.header("upgrade")) != "websocket" || request_.header("sec-websocket-version") != "13") {
    return errorf(ErrorKind::kInvalid, "this address speaks websocket (version 13) only");
  }
  // A page of another origin must not use a browser's certificate.
  const std::string_view origin = request_.header("origin");
  if (!origin.empty() && !origin.ends_with(fmt::format("://{}", request_.header("host")))) {
    return errorf(ErrorKind::kPermission, "websockets are not served to pages of other origins");
  }
  TRY_ASSIGN(const std::string accept, websocket_accept(request_.header("sec-websocket-key")));
  started_ = taken_over_ = true;
  status_ = 101;
  if (on_start_) on_start_();
  std::string protocol;
  if (!request_.header("sec-websocket-protocol").empty()) {
    const std::string_view offered = request_.header("sec-websocket-protocol");
    protocol = fmt::format("Sec-WebSocket-Protocol: {}\r\n", offered.substr(0, offered.find(',')));
  }
  TRY(stream_.write(fmt::format("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: {}\r\n{}\r\n",
                                accept, protocol),
                    kAnswerTimeoutMs));
  *early = request_.reader_->take_rest();
  return &stream_;
}

Result<void> Response::finish() {
  stop_watching();
  if (broken_) return errorf(ErrorKind::kIo, "the client went away");
  if (ready_ && !started_) return send_whole(status_, content_type_, body_);
  if (streaming_ && chunked_ && request_.method_ != "HEAD") return stream_.write("0\r\n\r\n", kAnswerTimeoutMs);
  return {};
}

}  // namespace hull::api
