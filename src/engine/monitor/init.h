#pragma once

namespace hull::engine::monitor {

/// The small PID 1 of `--init`: executes argv[1...] (after an optional "--") as a child, passes signals on, reaps
/// orphans, and ends as the child did (128 + signal when killed; 126 or 127 when it could not be executed).
int run_init(int argc, char** argv);

}  // namespace hull::engine::monitor
