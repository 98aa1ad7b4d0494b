#include "api/images_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/json.h"
#include "base/error_format.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::api {
namespace {

constexpr size_t kMaxHeld = 1 << 20;
constexpr size_t kMaxAuth = 64 << 10;
constexpr size_t kMaxLine = 1 << 20;

ErrorKind kind_named(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(ErrorKind::kInternal); ++i) {
    const auto kind = static_cast<ErrorKind>(i);
    if (to_string(kind) == name) return kind;
  }
  return ErrorKind::kInternal;
}

/// The error that a line tells of, if it does.
std::optional<Error> error_in(std::string_view line) {
  if (!line.starts_with("{\"errorDetail\"")) return std::nullopt;
  const auto json = parse_json_object(line);
  if (!json.ok()) return std::nullopt;
  std::string message, kind;
  ignore_result(read_member(*json, "error", &message));
  ignore_result(read_member(*json, "kind", &kind));
  return Error(kind_named(kind), std::move(message));
}

/// What comes before the registry has said anything: held back, so that its refusal can still be a status.
bool tells_nothing_yet(std::string_view line) { return line.find(": Pulling from ") != std::string_view::npos; }

/// The program, ended with whoever waits for it.
class Program {
 public:
  Program(engine::Child child, UniqueFd input, UniqueFd output)
      : child_(std::move(child)), input_(std::move(input)), output_(std::move(output)) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (!child_.pidfd) return;
    ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGTERM, nullptr, 0);
    input_.reset();
    output_.reset();
    ignore_result(engine::wait_for(child_));
  }
  Result<int> wait() {
    auto code = engine::wait_for(child_);
    child_.pidfd.reset();
    return code;
  }
  UniqueFd& input() { return input_; }
  int output() const { return output_.get(); }

 private:
  engine::Child child_;
  UniqueFd input_, output_;
};

/// Takes what the program says and answers with it.
class Answer {
 public:
  Answer(Response& response, const ImagesJob& job) : response_(response), job_(job) {}

  /// `hold`: nothing is sent yet (the client still sends).
  Result<void> take(std::string_view bytes, bool hold) {
    if (job_.raw_output) return raw(bytes, hold);
    rest_ += bytes;
    size_t at = 0;
    for (size_t end = 0; (end = rest_.find('\n', at)) != std::string::npos; at = end + 1) {
      TRY(line(rest_.substr(at, end + 1 - at), hold));
    }
    rest_.erase(0, at);
    if (rest_.size() > kMaxLine) return errorf(ErrorKind::kInternal, "hull-images wrote a line without an end");
    return {};
  }

  Result<void> finish(int code) {
    if (job_.raw_output && code != 0 && !response_.started()) {
      auto error = error_in(held_);
      return error ? std::move(*error) : Error(ErrorKind::kInternal, "hull-images failed and said nothing");
    }
    if (failure_ && !response_.started()) return std::move(*failure_);
    if (job_.whole_answer && code == 0) {
      response_.json(200, std::move(held_));
      return {};
    }
    TRY(flush());
    if (code != 0 && !failure_) {
      TRY(
          response_.write("{\"errorDetail\":{\"message\":\"hull-images ended unexpectedly\"},"
                          "\"error\":\"hull-images ended unexpectedly\"}\n"));
    }
    return {};
  }

 private:
  Result<void> flush() {
    if (!response_.started()) TRY(response_.start_stream(200, job_.content_type));
    if (held_.empty()) return {};
    return response_.write(std::exchange(held_, std::string()));
  }
  Result<void> line(std::string text, bool hold) {
    if (auto error = error_in(text); error) {
      failure_ = std::move(error);
      if (!response_.started()) return {};
    }
    if (job_.whole_answer || hold || (!response_.started() && tells_nothing_yet(text))) {
      if (held_.size() < kMaxHeld) held_ += text;
      return {};
    }
    held_ += text;
    return flush();
  }
  /// An archive begins at once; a message instead of it is an error.
  Result<void> raw(std::string_view bytes, bool hold) {
    held_ += bytes;
    if (hold || held_.starts_with("{\"errorDetail\"")) return {};
    return flush();
  }

  Response& response_;
  const ImagesJob& job_;
  std::string rest_, held_;
  std::optional<Error> failure_;
};

Result<void> drain(Program& program, Answer& answer, bool hold, bool* ended) {
  char buffer[64 * 1024];
  const ssize_t got = ::read(program.output(), buffer, sizeof buffer);
  if (got < 0 && errno == EINTR) return {};
  if (got < 0) return errno_error("read from hull-images");
  *ended = got == 0;
  return answer.take(std::string_view(buffer, static_cast<size_t>(got)), hold);
}

/// The body into the program. It may end before it has read everything: then the rest is read and dropped.
Result<void> feed(Request& request, Program& program, Answer& answer, bool* ended) {
  std::vector<char> buffer(256 << 10);
  for (;;) {
    TRY_ASSIGN(const size_t got, request.read_body(buffer.data(), buffer.size()));
    if (got == 0) break;
    size_t at = 0;
    while (at < got && program.input() && !*ended) {
      pollfd watched[2] = {{program.output(), POLLIN, 0}, {program.input().get(), POLLOUT, 0}};
      if (::poll(watched, 2, -1) < 0 && errno != EINTR) return errno_error("wait for hull-images");
      if (watched[0].revents != 0) TRY(drain(program, answer, true, ended));
      if (watched[1].revents == 0) continue;
      const ssize_t done = ::write(program.input().get(), buffer.data() + at, got - at);
      if (done > 0) at += static_cast<size_t>(done);
      if (done < 0 && errno == EPIPE) program.input().reset();
      if (done < 0 && errno != EPIPE && errno != EAGAIN && errno != EINTR) return errno_error("write to hull-images");
    }
  }
  program.input().reset();
  return {};
}

}  // namespace

Result<std::string> decode_auth(std::string_view header) {
  if (header.empty()) return std::string("{}");
  if (header.size() > kMaxAuth) return errorf(ErrorKind::kInvalid, "invalid X-Registry-Auth header: it is too long");
  std::string out;
  uint32_t group = 0;
  int bits = 0;
  for (const char c : header) {
    uint32_t digit = 0;
    if (c >= 'A' && c <= 'Z') {
      digit = static_cast<uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      digit = static_cast<uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0' + 52);
    } else if (c == '-' || c == '+') {
      digit = 62;
    } else if (c == '_' || c == '/') {
      digit = 63;
    } else if (c == '=') {
      break;
    } else {
      return errorf(ErrorKind::kInvalid, "invalid X-Registry-Auth header: it is no base64");
    }
    group = group << 6 | digit;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out += static_cast<char>(group >> bits & 0xff);
    }
  }
  auto json = parse_json_object(out);
  if (!json.ok()) return errorf(ErrorKind::kInvalid, "invalid X-Registry-Auth header: {}", json.error().message());
  return to_text(*json);
}

std::string encode_auth(std::string_view document) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  uint32_t group = 0;
  int bits = 0;
  for (const char c : document) {
    group = group << 8 | static_cast<unsigned char>(c);
    for (bits += 8; bits >= 6; bits -= 6) out += kDigits[group >> (bits - 6) & 63];
  }
  if (bits > 0) out += kDigits[group << (6 - bits) & 63];
  return out;
}

Result<void> run_images_job(Request& request, Response& response, const ImagesJob& job) {
  engine::SpawnRequest spawn;
  spawn.argv = {request.settings().libexec + "/hull-images", job.words.at(0), "--json-progress"};
  UniqueFd auth;
  if (job.takes_auth) {
    TRY_ASSIGN(const std::string document, decode_auth(job.auth));
    TRY_ASSIGN(auth, sys::sealed_memfd("hull-auth", document));
    spawn.argv.insert(spawn.argv.end(), {"--auth-file", "/proc/self/fd/3"});
    spawn.fds.emplace_back(3, auth.get());
  }
  spawn.argv.insert(spawn.argv.end(), job.words.begin() + 1, job.words.end());
  sys::Pipe input;
  if (job.body_is_input) {
    TRY_ASSIGN(input, sys::make_pipe());
    spawn.fds.emplace_back(0, input.read_end.get());
  }
  TRY_ASSIGN(sys::Pipe output, sys::make_pipe());
  spawn.fds.emplace_back(1, output.write_end.get());
  TRY_ASSIGN(engine::Child child, engine::spawn(spawn));
  input.read_end.reset();
  output.write_end.reset();
  if (input.write_end && ::fcntl(input.write_end.get(), F_SETFL, O_NONBLOCK) != 0) return errno_error("set up a pipe");
  Program program(std::move(child), std::move(input.write_end), std::move(output.read_end));
  Answer answer(response, job);
  bool ended = false;
  if (job.body_is_input) TRY(feed(request, program, answer, &ended));
  while (!ended) TRY(drain(program, answer, false, &ended));
  TRY_ASSIGN(const int code, program.wait());
  return answer.finish(code);
}

}  // namespace hull::api
