#include "cli/pump.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/detach_keys.h"
#include "base/error_format.h"

namespace hull::cli {
namespace {

constexpr size_t kBuffer = 64 * 1024;
/// What a pipe or a terminal that is ready takes without blocking (pipe(7): one page).
constexpr size_t kSmallWrite = 4096;

bool is_regular(int fd) {
  struct stat info{};
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

/// One direction: from `source` through a buffer to `sink`. A sink of -1 drops everything.
class Channel {
 public:
  Channel(int source, int sink) : source_(source), sink_(sink), whole_writes_(sink >= 0 && is_regular(sink)) {
    splices_ = sink >= 0 && ::isatty(sink) == 0;
  }

  bool done() const { return source_ < 0 && pending_.empty(); }
  bool reading() const { return source_ >= 0 && pending_.empty() && !sink_full_; }
  /// What to wait for next; fd -1 when done.
  pollfd interest() const {
    if (!pending_.empty() || sink_full_) return {sink_, POLLOUT, 0};
    return {source_, POLLIN, 0};
  }
  bool sink_gone() const { return sink_gone_; }
  void close_source() {
    source_ = -1;
    sink_full_ = false;
  }

  /// After poll said that interest() is ready. `filter` looks at what was read before it is passed on.
  template <typename Filter>
  Result<void> move(Filter filter, bool may_splice) {
    if (!pending_.empty()) return flush();
    sink_full_ = false;
    if (may_splice && splices_) {
      TRY_ASSIGN(const bool moved, splice_some());
      if (moved) return {};
    }
    std::array<char, kBuffer> buffer;  // NOLINT: filled by read
    const ssize_t got = ::read(source_, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return {};
    // EIO: the other side of a terminal is closed, which is its end of file.
    if (got < 0 && errno != EIO) return errno_error("read");
    if (got <= 0) {
      close_source();
      return {};
    }
    filter(std::string_view(buffer.data(), static_cast<size_t>(got)), pending_);
    if (sink_ < 0) pending_.clear();
    return pending_.empty() ? Result<void>() : flush_ready();
  }

 private:
  /// False: this pair of descriptors can't be spliced.
  Result<bool> splice_some() {
    const ssize_t moved = ::splice(source_, nullptr, sink_, nullptr, 1 << 20, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (moved > 0) return true;
    if (moved == 0) {
      close_source();
      return true;
    }
    if (errno == EINTR) return true;
    if (errno == EAGAIN) {
      // The source was ready, so it is the sink that is full.
      sink_full_ = true;
      return true;
    }
    if (errno == EPIPE) {
      sink_gone_ = true;
      return true;
    }
    splices_ = false;
    return false;
  }
  Result<void> flush_ready() {
    pollfd ready = {sink_, POLLOUT, 0};
    if (::poll(&ready, 1, 0) != 1) return {};
    return flush();
  }
  Result<void> flush() {
    const size_t most = whole_writes_ ? pending_.size() : std::min(pending_.size(), kSmallWrite);
    const ssize_t put = ::write(sink_, pending_.data(), most);
    if (put < 0 && (errno == EINTR || errno == EAGAIN)) return {};
    if (put < 0 && (errno == EPIPE || errno == EIO || errno == ECONNRESET)) {
      sink_gone_ = true;
      pending_.clear();
      return {};
    }
    if (put < 0) return errno_error("write");
    pending_.erase(0, static_cast<size_t>(put));
    return {};
  }

  int source_, sink_;
  std::string pending_;
  bool splices_ = false, sink_full_ = false, sink_gone_ = false, whole_writes_ = false;
};

void pass(std::string_view data, std::string& out) { out.assign(data); }

class Pump {
 public:
  Pump(engine::Attachment& streams, const PumpOptions& options)
      : streams_(streams),
        options_(options),
        input_(streams.input.valid() ? options.in_fd : -1, streams.input.get()),
        output_(streams.output.get(), options.out_fd),
        error_(streams.error.get(), options.err_fd),
        filter_(options.detach_sequence) {}

  Result<PumpEnd> run() {
    while (!finished()) {
      TRY(step());
      if (given_up_) return PumpEnd::kGivenUp;
      if (detached_) return PumpEnd::kDetached;
      if (output_.sink_gone() || error_.sink_gone()) return PumpEnd::kReaderGone;
      if (input_.sink_gone()) input_.close_source();
      if (input_.done()) streams_.input.reset();
    }
    return PumpEnd::kFinished;
  }

 private:
  bool finished() {
    const bool silent = output_.done() && error_.done();
    if (!ended_) return silent && (options_.ended_fd < 0 || !options_.wait_for_end);
    return silent || (!options_.wait_for_eof && empty(output_) && empty(error_));
  }
  /// Nothing to read now, nothing to write.
  static bool empty(const Channel& channel) {
    if (channel.done()) return true;
    if (!channel.reading()) return false;
    pollfd source = channel.interest();
    return ::poll(&source, 1, 0) == 0;
  }

  Result<void> step() {
    std::array<pollfd, 5> waits = {input_.interest(), output_.interest(), error_.interest(),
                                   pollfd{options_.signal_fd, POLLIN, 0},
                                   pollfd{ended_ ? -1 : options_.ended_fd, POLLIN, 0}};
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) return {};
      return errno_error("wait for the workload's output");
    }
    if (waits[3].revents != 0) take_signals();
    if (waits[1].revents != 0) TRY(output_.move(pass, true));
    if (waits[2].revents != 0) TRY(error_.move(pass, true));
    if (waits[0].revents != 0) {
      const auto filter = [this](std::string_view typed, std::string& out) { detached_ = filter_.feed(typed, out); };
      TRY(input_.move(filter, options_.detach_sequence.empty()));
    }
    if (waits[4].revents != 0) ended_ = true;
    return {};
  }

  void take_signals() {
    signalfd_siginfo info{};
    while (::read(options_.signal_fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (options_.on_signal && !options_.on_signal(static_cast<int>(info.ssi_signo))) given_up_ = true;
    }
  }

  engine::Attachment& streams_;
  const PumpOptions& options_;
  Channel input_, output_, error_;
  DetachFilter filter_;
  bool detached_ = false, ended_ = false, given_up_ = false;
};

}  // namespace

Result<SignalWatch> SignalWatch::start(bool proxy) {
  sigset_t set;
  if (proxy) {
    ::sigfillset(&set);
    // Not for others: faults of this program, its children, and what job control does to it.
    for (const int own : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGCHLD, SIGPIPE, SIGURG, SIGTTIN,
                          SIGTTOU, SIGKILL, SIGSTOP}) {
      ::sigdelset(&set, own);
    }
  } else {
    ::sigemptyset(&set);
    for (const int number : {SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT}) ::sigaddset(&set, number);
  }
  SignalWatch watch;
  if (::sigprocmask(SIG_BLOCK, &set, &watch.before_) != 0) return errno_error("block signals");
  watch.active_ = true;
  watch.fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!watch.fd_) return errno_error("watch signals");
  return watch;
}

SignalWatch::SignalWatch(SignalWatch&& other) noexcept
    : fd_(std::move(other.fd_)), before_(other.before_), active_(std::exchange(other.active_, false)) {}

SignalWatch::~SignalWatch() {
  if (active_) ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

std::string signal_name(int number) {
  if (number >= SIGRTMIN && number <= SIGRTMAX) {
    return number == SIGRTMIN ? "SIGRTMIN" : fmt::format("SIGRTMIN+{}", number - SIGRTMIN);
  }
  const char* name = ::sigabbrev_np(number);
  return name == nullptr ? std::to_string(number) : fmt::format("SIG{}", name);
}

Result<PumpEnd> pump(engine::Attachment& streams, const PumpOptions& options) {
  // A closed end is told by EPIPE here, not by the signal.
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  auto end = Pump(streams, options).run();
  std::signal(SIGPIPE, before);
  return end;
}

}  // namespace hull::cli
