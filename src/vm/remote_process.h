#pragma once
// One process in the guest as a program of the host stands for it: streams, signals, window size, exit code.

#include <optional>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/agent_client.h"
#include "oci/runtime_spec.h"
#include "vm/poll_set.h"
#include "vm/relay.h"

namespace hull::vm {

/// How long a guest may take over one call. Software emulation on a busy host is slow.
struct Patience {
  std::chrono::milliseconds call{10000};
  std::chrono::milliseconds boot{60000};
  std::chrono::milliseconds hung{60000};  ///< without an answer to a ping
  std::chrono::milliseconds shutdown{10000};
  std::chrono::milliseconds idle{1000};  ///< output of a process that has ended may take so long to arrive
};
Patience patience_of(bool emulated);

class RemoteProcess {
 public:
  /// `exec_id` is empty for the workload's first process. `signals` is catch_signals()'s.
  RemoteProcess(std::string vsock, std::string exec_id, int signals, Patience patience)
      : vsock_(std::move(vsock)), exec_id_(std::move(exec_id)), signals_(signals), patience_(patience) {}

  /// After the guest has made the process: opens its streams.
  Result<void> open_streams(const std::string& token, const Relay::Ends& ends);
  /// Asks for the exit code, which arrives in the loop. `control` is used for signals and sizes from now on.
  Result<void> watch(guest::AgentClient control);

  void collect(PollSet& set);
  /// The process has ended, or the connection broke: then the error says how.
  const std::optional<Result<guest::proto::WaitResponse>>& ended() const { return ended_; }
  /// What is left of its output (Relay::drain).
  void drain(std::chrono::milliseconds idle, std::chrono::milliseconds blocked) { relay_.drain(idle, blocked); }
  /// The terminal's size as the host has it now.
  void send_size();
  /// The client for other calls of the loop's owner.
  guest::AgentClient& control() { return *control_; }

 private:
  void on_signals();
  void on_wait();

  std::string vsock_, exec_id_;
  int signals_ = -1;
  Patience patience_;
  int terminal_ = -1;
  Relay relay_;
  std::optional<guest::AgentClient> control_, wait_;
  std::optional<Result<guest::proto::WaitResponse>> ended_;
};

void set_size(guest::proto::Streams& streams, const std::optional<oci::Box>& size);
/// 128 + signal, or the exit code; kept in 0 to 255 whatever the guest says.
int exit_code_of(const guest::proto::WaitResponse& response);

}  // namespace hull::vm
