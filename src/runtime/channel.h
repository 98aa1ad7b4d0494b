#pragma once
// The parent's end of the way to the child.

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "runtime/child/plan.h"
#include "runtime/messages.h"

namespace hull::runtime {

class Channel {
 public:
  /// A pair: this end, and the child's (close-on-exec too: it survives clone, not exec).
  static Result<Channel> make(UniqueFd& child_end);
  explicit Channel(UniqueFd fd) : fd_(std::move(fd)) {}
  Channel() = default;

  /// The next report; nothing when the other end was closed (the program runs, or the process died).
  Result<std::optional<child::Report>> next();
  /// Tells the child to go on.
  Result<void> answer(char byte = 'g');
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
};

/// Where a seccomp listener goes, and what is said about the container (config-linux.md, "Container Process State").
struct ListenerTarget {
  std::string path, metadata;
  oci::State state;
  int pid = 0;
};
/// Reads until the program was executed. Hands over a seccomp listener on the way.
Result<void> follow_exec(Channel& channel, int pidfd, const ListenerTarget& target, const MessageContext& messages);

}  // namespace hull::runtime
