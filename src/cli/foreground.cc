#include "cli/foreground.h"

#include <unistd.h>

#include <cerrno>

#include "base/detach_keys.h"
#include "base/error_format.h"

namespace hull::cli {
namespace {

constexpr int kMostInterrupts = 3;

}  // namespace

Result<Foreground> Foreground::prepare(Context& context, ForegroundOptions options) {
  const std::string_view keys = options.detach_keys.empty() ? kDefaultDetachKeys : options.detach_keys;
  TRY_ASSIGN(std::string sequence, parse_detach_keys(keys));
  TRY_ASSIGN(SignalWatch watch, SignalWatch::start(options.sig_proxy));
  return Foreground(context, std::move(options), std::move(watch), std::move(sequence));
}

Result<PumpEnd> Foreground::run(engine::Attachment& streams, int ended_fd, bool of_exec) {
  const bool types = options_.tty && options_.input && ::isatty(context_->in_fd) == 1;
  if (types) {
    TRY_ASSIGN(RawTerminal raw, RawTerminal::enter(context_->in_fd));
    raw_.emplace(std::move(raw));
  }
  if (options_.tty) send_size();
  context_->out.flush();
  PumpOptions pump_options;
  pump_options.in_fd = options_.input ? context_->in_fd : -1;
  pump_options.out_fd = options_.output ? context_->out.fd() : -1;
  pump_options.err_fd = options_.error ? context_->err.fd() : -1;
  if (options_.tty && options_.input) pump_options.detach_sequence = sequence_;
  pump_options.ended_fd = ended_fd;
  pump_options.wait_for_eof = !of_exec;
  pump_options.signal_fd = watch_.fd();
  pump_options.on_signal = [this](int number) { return take_signal(number); };
  auto end = pump(streams, pump_options);
  raw_.reset();
  if (end.ok() && *end == PumpEnd::kDetached) context_->err.write("read escape sequence\n");
  return end;
}

void Foreground::send_size() {
  const auto size = terminal_size(context_->out.fd());
  // A size of 0 x 0 is a terminal that does not know its own; the workload may have ended meanwhile.
  if (size && size->width > 0 && size->height > 0 && options_.resize) ignore_result(options_.resize(*size));
}

bool Foreground::take_signal(int number) {
  if (number == SIGWINCH) {
    if (options_.tty) send_size();
    return true;
  }
  if (options_.sig_proxy) {
    // As Docker: a program that ignores its signals does not hold the caller for ever.
    interrupts_ += number == SIGINT || number == SIGTERM ? 1 : 0;
    if (interrupts_ >= kMostInterrupts) {
      context_->warn(fmt::format("got {} SIGTERM/SIGINTs, forcefully exiting; the workload goes on", kMostInterrupts));
      return false;
    }
    // It may have ended meanwhile: then there is nothing to signal, and the streams say so next.
    if (options_.signal) ignore_result(options_.signal(signal_name(number)));
    return true;
  }
  // Not ours to pass on: end as the signal would have ended us, with the terminal as it was.
  raw_.reset();
  std::signal(number, SIG_DFL);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, number);
  ::raise(number);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  return false;
}

Result<void> check_terminal(const Context& context, bool attach_input, bool tty) {
  if (attach_input && tty && ::isatty(context.in_fd) != 1) {
    return errorf(ErrorKind::kConflict,
                  "the input device is not a TTY: leave -t out when standard input is no "
                  "terminal");
  }
  return {};
}

int start_failure_code(const Error& error) {
  if (error.error_number() == ENOENT) return 127;
  if (error.error_number() == EACCES) return 126;
  return 125;
}

}  // namespace hull::cli
