#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::engine {

/// What a runtime says about a program that it can't start, as an Error whose error_number() is ENOENT or EACCES where
/// that is the reason (Docker's exit codes 127 and 126), or 0 for every other reason.
Error start_failure(std::string_view text, const std::vector<std::string>& command);

/// The last message of a runtime's JSON log, its last line when that is no JSON; "" for an empty log.
std::string last_log_message(std::string_view log);

}  // namespace hull::engine
