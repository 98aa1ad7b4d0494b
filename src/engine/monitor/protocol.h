#pragma once
// What a command and the monitor of a workload say to each other: fixed messages on SOCK_SEQPACKET unix sockets. The
// command that starts a workload holds one end of a socket pair; others connect to the socket `attach` in the run
// folder. Both sides check the size and the type of what they get. Both are the same build of the same project, so
// there is no version: a monitor that outlives an upgrade answers kUnknown to what it does not know.

#include <cstdint>

namespace hull::engine::monitor {

/// Descriptors that the monitor finds open when it starts.
inline constexpr int kControlFd = 3;   // the socket pair to the command that starts the workload
inline constexpr int kLockFd = 4;      // open file description lock: held while the monitor lives
inline constexpr int kRunFd = 5;       // run folder: state, exit, pid file
inline constexpr int kWorkloadFd = 6;  // data folder: log files
inline constexpr int kListenFd = 7;    // the listening socket `attach`
inline constexpr int kFirstUnusedFd = 8;

enum class MessageType : uint32_t {
  // to the monitor
  kAttach = 1,   // flags say which streams; one descriptor for each, in the order out, err, in
  kResize,       // a rows, b columns
  kStarted,      // the program runs (time_ns)
  kAbort,        // the start failed: kill what there is and go
  kOwnsCleanup,  // this client cleans up after the exit; it sends kCleaned or closes
  kCleaned,
  kRestartRule,  // a: RestartRule::When, b: the most restarts in a row; answered with the same message
  // from the monitor
  kCreated = 100,  // a: host pid of the first process
  kFailed,         // text: what the runtime said
  kExited,         // a: exit code, b: signal or 0, flags: kExited...; time_ns
  kUnknown,
};

inline constexpr uint32_t kAttachOutput = 1, kAttachError = 2, kAttachInput = 4;
/// The client that started the workload: it is never dropped for being slow.
inline constexpr uint32_t kAttachPrimary = 8;

inline constexpr uint32_t kExitedForMemory = 1;  // the kernel killed it for memory
inline constexpr uint32_t kExitedRestarts = 2;   // it will be started again: nobody is to clean up

struct Message {
  MessageType type = MessageType::kUnknown;
  uint32_t flags = 0;
  int32_t a = 0;
  int32_t b = 0;
  int64_t time_ns = 0;
  char text[1000] = {};
};

}  // namespace hull::engine::monitor
