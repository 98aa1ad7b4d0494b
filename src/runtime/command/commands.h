#pragma once
// The command line of hull-oci and hull-oci-vm: one function for each command. Each prints its result and returns the
// exit code, or an error that main tells once.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "runtime/oci_runtime.h"

namespace hull::runtime::command {

struct Global;
using Words = std::vector<std::string>;  // the command's name and what follows it

/// Which of the two programs this is.
struct Program {
  std::string_view name;       ///< "hull-oci"
  std::string_view isolation;  ///< "container" or "vm": what it makes
  bool enters = false;         ///< its own code runs inside containers: see safe_exe.h
  std::unique_ptr<OciRuntime> (*open)(Options options) = nullptr;
  /// A command that no OCI runtime has, for the engine alone.
  std::string_view own_name = {};
  Result<int> (*own_command)(const Global& global, const Words& words) = nullptr;
};

struct Global {
  Options options;
  bool debug = false;
  const Program* program = nullptr;
  OciRuntime* runtime = nullptr;
};

Result<int> create(const Global& global, const Words& words);
Result<int> start(const Global& global, const Words& words);
Result<int> run(const Global& global, const Words& words);
Result<int> exec(const Global& global, const Words& words);
Result<int> state(const Global& global, const Words& words);
Result<int> kill(const Global& global, const Words& words);
Result<int> remove(const Global& global, const Words& words);
Result<int> list(const Global& global, const Words& words);
Result<int> ps(const Global& global, const Words& words);
Result<int> pause(const Global& global, const Words& words);
Result<int> resume(const Global& global, const Words& words);
Result<int> update(const Global& global, const Words& words);
Result<int> events(const Global& global, const Words& words);
Result<int> spec(const Global& global, const Words& words);
Result<int> features(const Global& global, const Words& words);
Result<int> checkpoint(const Global& global, const Words& words);

/// The whole program. hull-oci becomes hull-oci-vm by exec when --isolation, config.json or the record says so.
int main(int argc, char** argv, const Program& program);
/// hull-oci's.
int main(int argc, char** argv);

/// Writes to standard output; a closed pipe is no failure of ours.
void print(std::string_view text);
/// Signal by number or by name, with or without SIG. kInvalid "unknown signal".
Result<int> parse_signal(std::string_view text);

}  // namespace hull::runtime::command
