#include "guest/ttrpc.h"

#include <google/protobuf/stubs/logging.h>
#include <guest/ttrpc.pb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"

namespace hull::guest::ttrpc {
namespace {

constexpr std::string_view kFaultType = "hull.guest.Fault";
constexpr size_t kReadBytes = 64 << 10;

uint32_t read_be32(const char* bytes) {
  uint32_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return __builtin_bswap32(value);
}

void append_be32(std::string& out, uint32_t value) {
  const uint32_t swapped = __builtin_bswap32(value);
  out.append(reinterpret_cast<const char*>(&swapped), sizeof swapped);
}

/// gRPC's codes, for a peer that knows nothing of Fault.
int32_t grpc_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return 3;
    case ErrorKind::kTimeout:
      return 4;
    case ErrorKind::kNotFound:
      return 5;
    case ErrorKind::kExists:
      return 6;
    case ErrorKind::kPermission:
      return 7;
    case ErrorKind::kNoSpace:
      return 8;
    case ErrorKind::kConflict:
      return 9;
    case ErrorKind::kUnsupported:
      return 12;
    case ErrorKind::kUnavailable:
      return 14;
    case ErrorKind::kCorrupt:
      return 15;
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return 13;
}

ErrorKind kind_of_code(int32_t code) {
  constexpr int32_t kLast = 16;
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInternal); ++kind) {
    if (code <= kLast && grpc_code(static_cast<ErrorKind>(kind)) == code) return static_cast<ErrorKind>(kind);
  }
  return ErrorKind::kInternal;
}

/// proto3 strings are UTF-8, file names need not be.
std::string printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : 0;
    bool whole = length != 0 && i + length <= text.size();
    for (size_t k = 1; whole && k < length; ++k) whole = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
    // Overlong forms and surrogates.
    if (whole && length == 3) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      whole = !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second >= 0xA0);
    }
    if (whole) {
      out.append(text.substr(i, length));
      i += length;
    } else {
      out += '?';
      ++i;
    }
  }
  return out;
}

/// A peer's error, its text untouched. from_errno writes the reason at the end: an errno survives where it stands
/// there.
Error rebuild(std::string text, ErrorKind kind, int error_number) {
  const std::string reason = std::string(": ") + std::strerror(error_number);
  if (error_number <= 0 || !text.ends_with(reason)) return {kind, std::move(text)};
  text.resize(text.size() - reason.size());
  return Error::from_errno(error_number, text).as(kind);
}

/// The library tells standard error of strings that are not UTF-8. What a peer sends must not reach a person's
/// terminal: the error that the caller gets says enough.
bool silence_parser() {
  google::protobuf::SetLogHandler(nullptr);
  return true;
}
const bool kParserIsSilent = silence_parser();

int wait_ms(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

Result<void> wait_for(int fd, short events, Deadline deadline) {
  while (true) {
    pollfd watched{fd, events, 0};
    const int ready = ::poll(&watched, 1, wait_ms(deadline));
    if (ready > 0) return {};
    if (ready == 0) return errorf(ErrorKind::kTimeout, "no answer within the time allowed");
    if (errno != EINTR) return errno_error("wait for the peer");
  }
}

}  // namespace

Result<std::string> encode(const Frame& frame) {
  if (frame.data.size() > kMaxDataBytes) {
    return errorf(ErrorKind::kInvalid, "message of {} bytes is longer than {}", frame.data.size(), kMaxDataBytes);
  }
  std::string out;
  out.reserve(kHeaderBytes + frame.data.size());
  append_be32(out, static_cast<uint32_t>(frame.data.size()));
  append_be32(out, frame.stream);
  out += static_cast<char>(frame.type);
  out += static_cast<char>(frame.flags);
  out += frame.data;
  return out;
}

Result<std::optional<Frame>> FrameReader::next() {
  const std::string_view rest = std::string_view(buffer_).substr(used_);
  if (rest.size() < kHeaderBytes) return std::optional<Frame>();
  const size_t length = read_be32(rest.data());
  const auto type = static_cast<uint8_t>(rest[8]);
  if (length > kMaxDataBytes) return errorf(ErrorKind::kCorrupt, "frame of {} bytes", length);
  if (type < 1 || type > 3) return errorf(ErrorKind::kCorrupt, "frame of type {}", type);
  if (rest.size() < kHeaderBytes + length) return std::optional<Frame>();
  Frame frame;
  frame.stream = read_be32(rest.data() + 4);
  frame.type = static_cast<FrameType>(type);
  frame.flags = static_cast<uint8_t>(rest[9]);
  frame.data = rest.substr(kHeaderBytes, length);
  used_ += kHeaderBytes + length;
  if (used_ == buffer_.size()) {
    // What one large message needed is not kept.
    if (buffer_.capacity() > kReadBytes) std::string().swap(buffer_);
    buffer_.clear();
    used_ = 0;
  } else if (used_ > kReadBytes) {
    buffer_.erase(0, used_);
    used_ = 0;
  }
  return std::optional<Frame>(std::move(frame));
}

std::string encode_request(const Call& call) {
  Request request;
  request.set_service(call.service);
  request.set_method(call.method);
  request.set_payload(call.payload);
  request.set_timeout_nano(call.timeout.count());
  return request.SerializeAsString();
}

Result<Call> decode_request(std::string_view data) {
  Request request;
  if (!kParserIsSilent || !request.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return errorf(ErrorKind::kCorrupt, "malformed request");
  }
  Call call;
  call.service = std::move(*request.mutable_service());
  call.method = std::move(*request.mutable_method());
  call.payload = std::move(*request.mutable_payload());
  call.timeout = std::chrono::nanoseconds(std::max<int64_t>(request.timeout_nano(), 0));
  return call;
}

std::string encode_response(const Result<std::string>& outcome) {
  Response response;
  if (outcome.ok()) {
    response.set_payload(*outcome);
    return response.SerializeAsString();
  }
  const Error& error = outcome.error();
  constexpr size_t kLongest = 64 << 10;
  Status& status = *response.mutable_status();
  status.set_code(grpc_code(error.kind()));
  status.set_message(printable(std::string_view(error.message()).substr(0, kLongest)));
  Fault fault;
  fault.set_kind(static_cast<uint32_t>(error.kind()));
  fault.set_error_number(error.error_number());
  Any& detail = *status.add_details();
  detail.set_type_url(std::string(kFaultType));
  detail.set_value(fault.SerializeAsString());
  return response.SerializeAsString();
}

Result<std::string> decode_response(std::string_view data) {
  Response response;
  if (!kParserIsSilent || !response.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return errorf(ErrorKind::kCorrupt, "malformed response");
  }
  if (!response.has_status() || response.status().code() == 0) return std::move(*response.mutable_payload());
  const Status& status = response.status();
  ErrorKind kind = kind_of_code(status.code());
  int error_number = 0;
  for (const Any& detail : status.details()) {
    Fault fault;
    if (detail.type_url() != kFaultType || !fault.ParseFromString(detail.value())) continue;
    constexpr int kLastErrno = 4095;
    if (fault.kind() <= static_cast<uint32_t>(ErrorKind::kInternal)) kind = static_cast<ErrorKind>(fault.kind());
    if (fault.error_number() > 0 && fault.error_number() <= kLastErrno) error_number = fault.error_number();
  }
  return rebuild(status.message(), kind, error_number);
}

/// Shared with the replies that are still out: they may outlive the connection.
struct ServerConnection::State : std::enable_shared_from_this<ServerConnection::State> {
  UniqueFd socket;
  Handler handler;
  FrameReader reader;
  std::deque<std::string> queue;
  size_t queued_bytes = 0;
  size_t front_sent = 0;  // of queue.front()
  size_t calls = 0;
  uint32_t last_stream = 0;
  bool in_ready = false;
  std::function<void()> notify;

  void answer(uint32_t stream, const Result<std::string>& outcome) {
    if (!socket) return;
    auto bytes = encode({stream, FrameType::kResponse, 0, encode_response(outcome)});
    if (!bytes.ok()) {
      bytes = encode({stream, FrameType::kResponse, 0,
                      encode_response(std::move(bytes).error().as(ErrorKind::kNoSpace).context("the answer"))});
    }
    queued_bytes += bytes->size();
    queue.push_back(std::move(*bytes));
    if (!in_ready && notify) notify();
  }

  Reply reply_to(uint32_t stream) {
    ++calls;
    auto self = weak_from_this();
    auto done = std::make_shared<bool>(false);
    return [self, done, stream](Result<std::string> outcome) {
      const auto state = self.lock();
      if (!state || *done) return;
      *done = true;
      --state->calls;
      state->answer(stream, outcome);
    };
  }

  bool wants_read() const { return calls < kMaxCalls && queued_bytes < kMaxQueuedBytes; }

  /// False: the peer broke the rules.
  bool handle(Frame frame) {
    // A client's streams are odd and go up; only unary calls are known here.
    if (frame.type != FrameType::kRequest || frame.stream % 2 == 0 || frame.stream <= last_stream) return false;
    last_stream = frame.stream;
    if (frame.flags != 0) {
      answer(frame.stream, errorf(ErrorKind::kUnsupported, "streaming calls are not known here"));
      return true;
    }
    auto call = decode_request(frame.data);
    if (!call.ok()) {
      answer(frame.stream, std::move(call).error().as(ErrorKind::kInvalid));
      return true;
    }
    Reply reply = reply_to(frame.stream);
    handler(std::move(*call), std::move(reply));
    return true;
  }

  bool take_frames() {
    while (wants_read()) {
      auto frame = reader.next();
      if (!frame.ok()) return false;
      if (!frame->has_value()) return true;
      if (!handle(std::move(**frame))) return false;
    }
    return true;
  }

  bool read_some() {
    char buffer[kReadBytes];
    while (wants_read()) {
      const ssize_t got = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (got == 0) return false;
      if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
      reader.append({buffer, static_cast<size_t>(got)});
      if (!take_frames()) return false;
      if (static_cast<size_t>(got) < sizeof buffer) return true;
    }
    return true;
  }

  bool write_some() {
    while (!queue.empty()) {
      const std::string& front = queue.front();
      const ssize_t sent =
          ::send(socket.get(), front.data() + front_sent, front.size() - front_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
      front_sent += static_cast<size_t>(sent);
      if (front_sent < front.size()) continue;
      queued_bytes -= front.size();
      front_sent = 0;
      queue.pop_front();
    }
    return true;
  }
};

ServerConnection::ServerConnection(UniqueFd socket, Handler handler) : state_(std::make_shared<State>()) {
  state_->socket = std::move(socket);
  state_->handler = std::move(handler);
}
ServerConnection::~ServerConnection() { state_->socket.reset(); }

int ServerConnection::fd() const { return state_->socket.get(); }
bool ServerConnection::wants_read() const { return state_->wants_read(); }
bool ServerConnection::wants_write() const { return !state_->queue.empty(); }
void ServerConnection::on_queued(std::function<void()> notify) { state_->notify = std::move(notify); }

bool ServerConnection::on_ready(bool readable, bool writable) {
  const std::shared_ptr<State> state = state_;  // a handler may end this connection
  state->in_ready = true;
  // Frames that were read before the limits were reached come first.
  bool alive = state->take_frames();
  if (alive && readable) alive = state->read_some();
  if (alive && (writable || !state->queue.empty())) alive = state->write_some();
  state->in_ready = false;
  return alive && state->socket.valid();
}

Result<uint32_t> Client::send(std::string_view service, std::string_view method, std::string_view payload,
                              Deadline deadline) {
  Call call{std::string(service), std::string(method), std::string(payload), {}};
  const auto left = deadline - std::chrono::steady_clock::now();
  call.timeout = std::max<std::chrono::nanoseconds>(left, std::chrono::nanoseconds(1));
  const uint32_t stream = next_stream_;
  TRY_ASSIGN(const std::string bytes, encode({stream, FrameType::kRequest, 0, encode_request(call)}));
  next_stream_ += 2;
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t done = ::send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done >= 0) {
      sent += static_cast<size_t>(done);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      auto ready = wait_for(socket_.get(), POLLOUT, deadline);
      // Half a frame is out: nothing more can be said on this connection.
      if (!ready.ok() && sent > 0) ::shutdown(socket_.get(), SHUT_RDWR);
      TRY(std::move(ready));
    } else if (errno != EINTR) {
      return errno_error("send the request").as(ErrorKind::kUnavailable);
    }
  }
  return stream;
}

Result<std::optional<std::string>> Client::receive(uint32_t stream) {
  char buffer[kReadBytes];
  while (true) {
    TRY_ASSIGN(std::optional<Frame> frame, reader_.next());
    if (frame) {
      if (frame->type != FrameType::kResponse || frame->stream % 2 == 0 || frame->stream >= next_stream_) {
        return errorf(ErrorKind::kCorrupt, "the peer answered a call that was never made");
      }
      if (frame->stream != stream) continue;
      TRY_ASSIGN(std::string payload, decode_response(frame->data));
      return std::optional<std::string>(std::move(payload));
    }
    const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) {
      reader_.append({buffer, static_cast<size_t>(got)});
    } else if (got == 0) {
      return errorf(ErrorKind::kUnavailable, "the peer closed the connection");
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return std::optional<std::string>();
    } else if (errno != EINTR) {
      return errno_error("read the answer").as(ErrorKind::kUnavailable);
    }
  }
}

Result<std::string> Client::call(std::string_view service, std::string_view method, std::string_view payload,
                                 Deadline deadline) {
  TRY_ASSIGN(const uint32_t stream, send(service, method, payload, deadline));
  while (true) {
    TRY_ASSIGN(std::optional<std::string> answer, receive(stream));
    if (answer) return std::move(*answer);
    TRY(wait_for(socket_.get(), POLLIN, deadline));
  }
}

}  // namespace hull::guest::ttrpc
