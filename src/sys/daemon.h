#pragma once
// Starting a program that goes on in the background.

#include <string>
#include <vector>

#include "base/error.h"

namespace hull::sys {

/// Starts `argv` in a session of its own, with no signal blocked or ignored and nothing open but /dev/null and a pipe
/// for what it says, and waits until its first process ends: with 0 once its second one is ready. Otherwise
/// kUnavailable, with what it said.
Result<void> start_daemon(std::vector<std::string> argv);

}  // namespace hull::sys
