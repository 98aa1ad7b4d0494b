#pragma once
// Checks of a request that need nothing but the request, with Docker's words where they are known.

#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/config.h"

namespace hull::engine {

/// [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 255.
bool valid_name(std::string_view name);

/// --link WORKLOAD[:ALIAS].
struct Link {
  std::string workload, alias;
};
Result<Link> parse_link(std::string_view text);

/// kInvalid or kUnsupported, naming the option at fault.
Result<void> validate(const Config& config);
/// Of it what concerns virtual machines: options that can't mean the same behind that wall, and options that mean
/// nothing behind the other.
Result<void> validate_vm(const Config& config);
/// A device that every Linux kernel makes itself, so that a guest has it too.
bool is_guest_device(std::string_view path);

/// "KILL", "SIGKILL", "9" -> 9, real-time names too ("RTMIN+3").
Result<int> parse_signal(std::string_view text);

}  // namespace hull::engine
