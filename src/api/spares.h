#pragma once
// Processes that wait for a connection, with the engine open: a client need not wait until one has begun.
//
// The accepting process keeps one descriptor for each of them, and only while it waits. A process reports that it is
// free by sending such a descriptor; it gets a connection through it, or its end.

#include <sys/types.h>

#include <optional>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::api {

/// A connection that was accepted, and what is known of its client.
struct Task {
  UniqueFd socket;
  uid_t uid = 0;
  bool is_unix = true;
  bool tls = false;
  bool dashboard = false;
};

class Spares {
 public:
  Result<void> open();

  // For the accepting process.
  /// Readable when a process has reported.
  int fd() const { return reports_.get(); }
  /// The processes that have reported since. More than `most` at a time, and those from before dismiss(), are let go.
  std::vector<pid_t> collect(size_t most);
  /// Passes the connection to a process that waits; its pid, 0 when there is none.
  pid_t hand_over(const Task& task);
  /// One that waited has ended.
  void forget(pid_t pid);
  size_t waiting() const { return spares_.size(); }
  /// Lets all of them go, and those that will report later: what they know is no longer right.
  void dismiss();

  // For a process of a connection.
  /// Closes what only the accepting process needs.
  void become_worker();
  /// Reports and waits. Nothing: there is no need of this process any more.
  std::optional<Task> wait_for_task();

 private:
  struct Spare {
    pid_t pid;
    UniqueFd channel;
  };
  UniqueFd reports_, report_end_;
  std::vector<Spare> spares_;
  int generation_ = 0;
};

}  // namespace hull::api
