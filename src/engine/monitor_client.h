#pragma once
// Talking to monitors.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/monitor/protocol.h"
#include "engine/paths.h"
#include "engine/state.h"

namespace hull::engine {

struct MonitorRequest {
  std::string program;  // hull-monitor
  std::string id;
  std::vector<std::string> arguments;    // before "--"
  std::vector<std::string> create_argv;  // the runtime's command
  std::vector<int> held;                 // descriptors that it keeps open as long as it lives; they stay the caller's
};

struct MonitorConnection {
  pid_t pid = -1;
  UniqueFd control;
};

/// Starts the monitor of a workload whose run folder exists. There `request.held` are numbered from
/// monitor::kFirstUnusedFd.
Result<MonitorConnection> launch_monitor(const Paths& paths, const MonitorRequest& request, UniqueFd lock);

/// The control connection of a running monitor; kNotFound when there is none.
Result<UniqueFd> connect_monitor(const Paths& paths, std::string_view id);

Result<void> send_message(int control, const monitor::Message& message, const std::vector<int>& fds = {});
/// Sends a message that is nothing but its type.
Result<void> tell(int control, monitor::MessageType type);
/// Waits for the next message; nothing at the end of the connection.
Result<std::optional<monitor::Message>> receive_message(int control);

/// Makes the pipes of an attachment and sends the monitor its ends. `control` is used, not kept.
Result<Attachment> request_attachment(int control, bool output, bool input, bool tty, bool primary);

/// Gives a running monitor another restart policy. False: it is of an earlier version, or does not answer.
Result<bool> change_restart_rule(int control, const RestartPolicy& policy);

/// Waits until the workload has ended: the record, or nothing when the monitor went away without a word.
Result<std::optional<ExitRecord>> await_exit(int control);

}  // namespace hull::engine
