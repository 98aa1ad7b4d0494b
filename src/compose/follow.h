#pragma once
// The output of several containers as one stream: each line with the container's name before it, one write a line. Each
// container is followed by a process of its own.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "compose/app.h"
#include "compose/state.h"

namespace hull::compose {

struct FollowOptions {
  engine::LogOptions log;
  bool prefix = true, colours = false;
};

/// How lines of one container begin; the names of all are padded to the same width.
class Prefixes {
 public:
  Prefixes(const std::vector<Container>& containers, const std::string& project, const FollowOptions& options);
  std::string of(const Container& container) const;
  /// "web-1" for "demo-web-1".
  std::string short_name(const Container& container) const;

 private:
  std::string project_;
  size_t width_ = 0;
  bool prefix_, colours_;
  std::vector<std::string> services_;
};

/// Writes a container's lines to standard output until they end.
Result<void> print_log(engine::Engine& engine, const Container& container, const std::string& prefix,
                       const engine::LogOptions& options);

/// Processes that follow and wait; all are ended by the destructor.
class Followers {
 public:
  Followers() = default;
  Followers(const Followers&) = delete;
  Followers& operator=(const Followers&) = delete;
  ~Followers();

  /// `show` false: only waits for its end.
  Result<void> add(const Container& container, const std::string& prefix, const engine::LogOptions& options, bool show,
                   bool wait);

  struct Ended {
    Container container;
    std::optional<int> code;  // of the container; nothing when it was not waited for, or could not be
  };
  /// The next one that ended; nothing when none is left, or when a signal of `signal_fd` came (see `interrupted`).
  std::optional<Ended> next(int signal_fd);
  bool interrupted() const { return interrupted_; }
  size_t size() const { return running_.size(); }

 private:
  struct Running {
    Container container;
    pid_t pid = -1;
    UniqueFd answer;
  };
  std::vector<Running> running_;
  bool interrupted_ = false;
};

/// Blocks SIGINT, SIGTERM and SIGHUP for this process and those that it starts, and gives a descriptor that is readable
/// when one has come.
Result<UniqueFd> catch_signals();
/// Takes one signal off it; 0 when there is none.
int take_signal(int signal_fd);

}  // namespace hull::compose
