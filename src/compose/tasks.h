#pragma once
// Work on several containers at the same time, in the order of their dependencies. Each piece of work is a process of
// its own, with an engine of its own: the engine is single-threaded, a crash takes one piece with it only, and who is
// killed leaves what every killed command leaves.

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace hull::compose {

struct Task {
  std::string name;           // for messages
  std::vector<size_t> after;  // indices of those that must have succeeded
  /// In the process of its own. What it returns is given to `done`.
  std::function<Result<std::string>()> work;
  /// Here, once the work has succeeded.
  std::function<void(const std::string& result)> done;
  bool only_waits = false;  // takes no processor: does not count as one of those at work
};

/// Runs all; after a failure nothing new is begun, what runs is waited for, and the first failure is returned.
/// `keep_going`: everything is tried whose dependencies have ended in any way; the first failure is returned.
Result<void> run_tasks(const std::vector<Task>& tasks, int parallel, bool keep_going = false);

}  // namespace hull::compose
