#pragma once
// A workload (or an exec) in the foreground: terminal, signals, streams, until it ends or the caller leaves.

#include <functional>
#include <optional>
#include <string>

#include "cli/command.h"
#include "cli/pump.h"
#include "cli/terminal.h"

namespace hull::cli {

struct ForegroundOptions {
  bool tty = false, input = false, output = true, error = true;
  bool sig_proxy = true;
  std::string detach_keys;  // as typed; "" is the default
  std::function<Result<void>(oci::Box)> resize;
  std::function<Result<void>(const std::string& signal)> signal;
};

/// Made before the start, so that no signal is lost in between; then run() with the streams.
class Foreground {
 public:
  static Result<Foreground> prepare(Context& context, ForegroundOptions options);

  /// `ended_fd` as in PumpOptions (with `of_exec`, output that other processes hold open is not waited for).
  Result<PumpEnd> run(engine::Attachment& streams, int ended_fd, bool of_exec);

 private:
  Foreground(Context& context, ForegroundOptions options, SignalWatch watch, std::string sequence)
      : context_(&context), options_(std::move(options)), watch_(std::move(watch)), sequence_(std::move(sequence)) {}
  /// False: the caller wants out.
  bool take_signal(int number);
  void send_size();

  Context* context_;
  ForegroundOptions options_;
  SignalWatch watch_;
  std::string sequence_;
  std::optional<RawTerminal> raw_;
  int interrupts_ = 0;
};

/// Docker's check before -t with an attached input: kInvalid when standard input is no terminal.
Result<void> check_terminal(const Context& context, bool attach_input, bool tty);

/// The exit code of a start that failed (engine.h, start): 127 the program is not there, 126 it can't be executed,
/// otherwise 125.
int start_failure_code(const Error& error);

}  // namespace hull::cli
