#pragma once
// Moves bytes between the caller's stdio and a workload's, one thread, on poll(2): splice(2) where both ends allow it.

#include <csignal>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "engine/engine.h"

namespace hull::cli {

/// Signals taken through a descriptor while it lives; blocked for this thread meanwhile, given back after.
class SignalWatch {
 public:
  /// `proxy`: every signal that can be passed on; otherwise only SIGWINCH and those that end this program.
  static Result<SignalWatch> start(bool proxy);
  SignalWatch(SignalWatch&& other) noexcept;
  SignalWatch& operator=(SignalWatch&&) = delete;
  ~SignalWatch();
  int fd() const { return fd_.get(); }

 private:
  SignalWatch() = default;
  UniqueFd fd_;
  sigset_t before_{};
  bool active_ = false;
};

/// "SIGTERM", "SIGRTMIN+1".
std::string signal_name(int number);

struct PumpOptions {
  int in_fd = -1, out_fd = -1, err_fd = -1;  // the caller's; -1: input is not read, output is dropped
  std::string detach_sequence;               // bytes that end the pump; "": none
  int ended_fd = -1;                         // readable or hung up when the process has ended
  bool wait_for_end = true;                  // go on until the process has ended, also when it closed its output
  bool wait_for_eof = true;                  // after the end, until its output is closed; false: until it is empty
  int signal_fd = -1;
  std::function<bool(int number)> on_signal;  // every signal from signal_fd; false ends the pump
};

enum class PumpEnd {
  kFinished,
  kGivenUp,     // on_signal said so
  kDetached,    // the detach keys were typed
  kReaderGone,  // the caller's standard output or error was closed
};

/// Closes `streams.input` when the caller's input ends. Errors: a read or write that failed for another reason than
/// an end that is closed.
Result<PumpEnd> pump(engine::Attachment& streams, const PumpOptions& options);

}  // namespace hull::cli
