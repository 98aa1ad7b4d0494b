#pragma once
// What `run` and `create` ask for: the engine's request, and how the command itself behaves.

#include <string>
#include <vector>

#include "base/error.h"
#include "cli/flags.h"
#include "engine/config.h"

namespace hull::cli {

struct RunOptions {
  engine::Config config;
  engine::PullPolicy pull = engine::PullPolicy::kMissing;
  bool detach = false, sig_proxy = true, quiet = false, timings = false;
  std::string detach_keys, cidfile;
  std::vector<std::string> attach;
  // Merged by finish_run_options: files first, then flags, whatever their order was (Docker).
  std::vector<std::string> env, env_files, labels, label_files;
  std::string volume_driver;
  bool no_healthcheck = false;
  bool network_given = false;
};

/// Applies every flag and the arguments IMAGE [COMMAND...] and checks what only the whole can tell (conflicts).
Result<RunOptions> parse_run_options(const Parsed& parsed);

// cmd_run.cc; the table of flags and the two commands stand in run_flags.cc.
class Context;
Result<int> run_main(Context& context, const Parsed& parsed);
Result<int> create_main(Context& context, const Parsed& parsed);
// cmd_compare.cc
Result<int> compare_main(Context& context, const Parsed& parsed);

}  // namespace hull::cli
