#pragma once
// A thin skin over SQLite: statements that are finalized, text that is bound by reference, errors as Result.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hull::store {

class Database;

/// One prepared statement. Parameters count from 1, columns from 0, as SQLite counts them.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  /// The text must outlive the next step().
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, int64_t number);
  /// True when there is a row.
  Result<bool> step();
  /// Runs a statement that gives no rows, and readies it for the next values.
  Result<void> run();
  /// Readies it for the next values.
  void reset();

  std::string text(int column) const;
  int64_t number(int column) const;
  bool is_null(int column) const;

 private:
  friend class Database;
  Statement(sqlite3* db, sqlite3_stmt* statement) : db_(db), statement_(statement) {}
  sqlite3* db_;
  sqlite3_stmt* statement_;
};

/// One connection. Rollback journal, full synchronisation: a commit that returned survives a power cut, a process
/// killed inside one leaves the old state (the next opener rolls back). Writers queue on an flock beside the file, and
/// a reader that meets a commit waits on the same lock, so nobody polls.
class Database {
 public:
  static Result<std::unique_ptr<Database>> open(const std::string& path, const std::string& lock_path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  Result<Statement> prepare(std::string_view sql);
  Result<void> execute(const char* sql);
  /// First column of the first row.
  Result<int64_t> query_number(std::string_view sql);
  int64_t rows_changed() const;
  sqlite3* raw() const { return db_; }

 private:
  friend class ReadTransaction;
  friend class WriteTransaction;
  Database() = default;
  static int on_busy(void* self, int tries);
  sqlite3* db_ = nullptr;
  std::string path_;
  UniqueFd lock_;
  bool writing_ = false;
};

/// One consistent view for several statements.
class ReadTransaction {
 public:
  static Result<ReadTransaction> begin(Database& db);
  ReadTransaction(ReadTransaction&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  ReadTransaction& operator=(ReadTransaction&&) = delete;
  ~ReadTransaction();

 private:
  explicit ReadTransaction(Database* db) : db_(db) {}
  Database* db_;
};

/// Holds the writers' lock from begin() to commit(); rolls back unless committed.
class WriteTransaction {
 public:
  static Result<WriteTransaction> begin(Database& db);
  WriteTransaction(WriteTransaction&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  WriteTransaction& operator=(WriteTransaction&&) = delete;
  ~WriteTransaction();
  Result<void> commit();

 private:
  explicit WriteTransaction(Database* db) : db_(db) {}
  Database* db_;
};

}  // namespace hull::store
