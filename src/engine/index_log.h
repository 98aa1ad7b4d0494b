#pragma once
// How the index's write-ahead log is kept by commands that each open, write once and end.

#include <string>

namespace hull::db {
class Database;
}

namespace hull::engine {

/// Write-ahead log with one sync per checkpoint: a commit costs no fsync, and a power cut can take back the last
/// commits but never half of one. A workload that is not in the index after a power cut is an unused folder that
/// `system check` removes. The log stays when the last command ends (checkpointing then would cost each command) and is
/// cut to nothing when it has grown.
void keep_log_between_commands(db::Database& database, const std::string& path);

}  // namespace hull::engine
