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

/// For a process that lives longer than a command: while it has the returned descriptor open, commands find the log's
/// index ready and need not read the log to make it anew. One process at a time holds it, since each lock on a file
/// costs every other one's time; -1 when somebody does, or when no log was opened. The descriptor is not the caller's
/// to close: that would drop SQLite's locks.
int hold_log_index();

}  // namespace hull::engine
