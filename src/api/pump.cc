#include "api/pump.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>

#include "base/detach_keys.h"

namespace hull::api {
namespace {

constexpr size_t kPiece = 32 << 10;
/// What a client may send ahead of a program that does not read.
constexpr size_t kMostInput = 256 << 10;

class Pump {
 public:
  Pump(Stream& client, engine::Attachment& streams, const PumpRequest& request, std::string early)
      : client_(client), streams_(streams), request_(request), filter_(request.detach_sequence) {
    for (const UniqueFd* fd : {&streams_.input, &streams_.output, &streams_.error}) {
      if (fd->valid()) ::fcntl(fd->get(), F_SETFL, ::fcntl(fd->get(), F_GETFL) | O_NONBLOCK);
    }
    take_input(early);
  }

  PumpEnd run() {
    while (!over_) {
      if (to_client_.empty() && outputs_done()) {
        if (ended_ || request_.ended_fd < 0) break;
      }
      step();
    }
    return *over_result();
  }

 private:
  std::optional<PumpEnd> over_result() const { return over_ ? over_ : std::optional(PumpEnd::kFinished); }
  bool outputs_done() const { return !streams_.output.valid() && !streams_.error.valid(); }

  void step() {
    // The client's bytes are taken as long as there is room; its output before more is read from the workload.
    const bool reads_client = !client_closed_ && to_workload_.size() < kMostInput;
    const bool reads_output = to_client_.empty();
    short client_events = 0;
    if (reads_client) client_events |= client_.read_events();
    if (!to_client_.empty()) client_events |= client_.write_events();
    std::array<pollfd, 5> waits = {
        pollfd{client_.fd(), client_events, 0},
        pollfd{reads_output ? streams_.output.get() : -1, POLLIN, 0},
        pollfd{reads_output ? streams_.error.get() : -1, POLLIN, 0},
        pollfd{!to_workload_.empty() ? streams_.input.get() : -1, POLLOUT, 0},
        pollfd{ended_ ? -1 : request_.ended_fd, POLLIN, 0},
    };
    const int timeout = reads_client && client_.buffered() ? 0 : -1;
    if (::poll(waits.data(), waits.size(), timeout) < 0) return;
    if ((waits[0].revents & POLLERR) != 0 || (client_closed_ && (waits[0].revents & POLLHUP) != 0)) {
      return end(PumpEnd::kClientGone);
    }
    if (!to_client_.empty() && waits[0].revents != 0) flush_client();
    if (reads_client && (waits[0].revents != 0 || timeout == 0)) read_client();
    if (waits[3].revents != 0) flush_workload();
    if (waits[1].revents != 0) read_workload(streams_.output, 1);
    if (to_client_.empty() && waits[2].revents != 0) read_workload(streams_.error, 2);
    if (waits[4].revents != 0) ended_ = true;
    if (ended_ && !over_) drain_after_end();
  }

  void end(PumpEnd how) {
    if (!over_) over_ = how;
  }

  /// The process has ended; others may hold its pipes open for ever.
  void drain_after_end() {
    if (!to_client_.empty()) return;
    for (UniqueFd* fd : {&streams_.output, &streams_.error}) {
      pollfd one = {fd->get(), POLLIN, 0};
      if (fd->valid() && ::poll(&one, 1, 0) == 0) fd->reset();
    }
  }

  void read_client() {
    char buffer[kPiece];
    const auto moved = client_.read_some(buffer, sizeof buffer);
    if (!moved.ok()) return end(PumpEnd::kClientGone);
    if (moved->state == Moved::State::kAgain) return;
    if (moved->state == Moved::State::kEnd) return close_input();
    take_input(std::string_view(buffer, moved->count));
  }

  void close_input() {
    client_closed_ = true;
    if (to_workload_.empty()) streams_.input.reset();
  }

  void take_input(std::string_view bytes) {
    std::string unframed;
    if (request_.websocket) {
      const bool open = websocket_.feed(bytes, unframed, to_client_);
      if (!open) {
        flush_client();
        return end(PumpEnd::kClientGone);
      }
      bytes = unframed;
    }
    if (!request_.input || !streams_.input.valid()) return;
    if (filter_.feed(bytes, to_workload_)) return end(PumpEnd::kDetached);
    flush_workload();
  }

  void flush_workload() {
    while (!to_workload_.empty() && streams_.input.valid()) {
      const ssize_t put = ::write(streams_.input.get(), to_workload_.data(), to_workload_.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN) return;
      if (put < 0) {
        streams_.input.reset();  // the program has closed it
        to_workload_.clear();
        break;
      }
      to_workload_.erase(0, static_cast<size_t>(put));
    }
    if (client_closed_) streams_.input.reset();
  }

  void read_workload(UniqueFd& from, int stream) {
    char buffer[kPiece];
    const ssize_t got = ::read(from.get(), buffer, sizeof buffer);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {  // EIO: the other side of a terminal is closed
      from.reset();
      return;
    }
    if (!(stream == 1 ? request_.output : request_.error)) return;
    const std::string_view data(buffer, static_cast<size_t>(got));
    if (request_.websocket) {
      to_client_ += websocket_frame(2, data);
    } else {
      request_.multiplexed ? to_client_ += output_frame(stream, data) : to_client_.append(data);
    }
    flush_client();
  }

  void flush_client() {
    while (!to_client_.empty()) {
      const auto moved = client_.write_some(to_client_);
      if (!moved.ok() || moved->state == Moved::State::kEnd) {
        to_client_.clear();
        return end(PumpEnd::kClientGone);
      }
      if (moved->state == Moved::State::kAgain) return;
      to_client_.erase(0, moved->count);
    }
  }

  Stream& client_;
  engine::Attachment& streams_;
  const PumpRequest& request_;
  DetachFilter filter_;
  WebsocketReader websocket_;
  std::string to_client_, to_workload_;
  bool client_closed_ = false, ended_ = false;
  std::optional<PumpEnd> over_;
};

}  // namespace

std::string output_frame(int stream, std::string_view data) {
  const size_t size = data.size();
  const char header[8] = {static_cast<char>(stream),
                          0,
                          0,
                          0,
                          static_cast<char>(size >> 24 & 0xff),
                          static_cast<char>(size >> 16),
                          static_cast<char>(size >> 8),
                          static_cast<char>(size)};
  std::string out(header, sizeof header);
  return out.append(data);
}

PumpEnd pump(Stream& client, engine::Attachment& streams, const PumpRequest& request, std::string early) {
  return Pump(client, streams, request, std::move(early)).run();
}

bool wait_beside(Stream& client, int fd, std::string& early) {
  bool closed = false;
  for (;;) {
    const bool reads = !closed && early.size() < kMostInput;
    std::array<pollfd, 2> waits = {pollfd{client.fd(), reads ? client.read_events() : short{0}, 0},
                                   pollfd{fd, POLLIN, 0}};
    if (::poll(waits.data(), waits.size(), reads && client.buffered() ? 0 : -1) < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    if (waits[1].revents != 0) return true;
    if ((waits[0].revents & POLLERR) != 0 || (closed && (waits[0].revents & POLLHUP) != 0)) return false;
    if (!reads || (waits[0].revents == 0 && !client.buffered())) continue;
    char buffer[kPiece];
    const auto moved = client.read_some(buffer, sizeof buffer);
    if (!moved.ok()) return false;
    if (moved->state == Moved::State::kEnd) closed = true;
    if (moved->state == Moved::State::kDone) early.append(buffer, moved->count);
  }
}

}  // namespace hull::api
