#pragma once
// A thin skin over SQLite: statements that are finalized, values that are copied in, transactions that roll back unless
// they are committed, errors as Result with one mapping of SQLite's codes to kinds.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hull::db {

class Database;

/// One prepared statement. Parameters count from 1, columns from 0, as SQLite counts them. Its Database outlives it.
class Statement {
 public:
  Statement(Statement&& other) noexcept
      : database_(other.database_), statement_(std::exchange(other.statement_, nullptr)) {}
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, int64_t number);
  Statement& bind(int index, std::span<const uint8_t> blob);
  /// The values of parameters 1, 2, ...
  template <typename... Values>
  Statement& bind_all(const Values&... values) {
    int index = 0;
    (bind(++index, values), ...);
    return *this;
  }

  /// True when there is a row.
  Result<bool> step();
  /// Runs a statement that gives no rows, and readies it for the next values.
  Result<void> run();
  /// Readies it for the next values.
  void reset();

  std::string text(int column) const;
  int64_t number(int column) const;
  /// Valid until the next step; empty when the column holds no blob.
  std::span<const uint8_t> blob(int column) const;
  bool is_null(int column) const;

 private:
  friend class Database;
  Statement(const Database* database, sqlite3_stmt* statement) : database_(database), statement_(statement) {}
  const Database* database_;
  sqlite3_stmt* statement_;
};

struct Options {
  std::string subject;        ///< what messages call it: "image index"
  std::string lock_path;      ///< writers queue on an flock of this file, nobody polls; "" for SQLite's own waiting
  int busy_ms = 30'000;       ///< without lock_path: how long to wait for another program
  bool foreign_keys = false;  ///< held to inside of write transactions
};

/// One connection, for one thread at a time. With SQLite's defaults (rollback journal, full synchronisation) a commit
/// that returned survives a power cut, and a process killed inside one leaves the old state (the next opener rolls
/// back); who wants it otherwise says so with a pragma.
class Database {
 public:
  /// Makes the file when it is absent. kNotFound when its folder is missing.
  static Result<std::unique_ptr<Database>> open(const std::string& path, Options options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  Result<Statement> prepare(std::string_view sql);
  /// Prepares and binds.
  template <typename... Values>
  Result<Statement> query(std::string_view sql, const Values&... values) {
    TRY_ASSIGN(Statement statement, prepare(sql));
    statement.bind_all(values...);
    return statement;
  }
  /// Prepares, binds and runs a statement that gives no rows.
  template <typename... Values>
  Result<void> run(std::string_view sql, const Values&... values) {
    TRY_ASSIGN(Statement statement, query(sql, values...));
    return statement.run();
  }
  /// The first column of every row.
  template <typename... Values>
  Result<std::vector<std::string>> texts(std::string_view sql, const Values&... values) {
    TRY_ASSIGN(Statement rows, query(sql, values...));
    std::vector<std::string> out;
    while (true) {
      TRY_ASSIGN(const bool more, rows.step());
      if (!more) return out;
      out.push_back(rows.text(0));
    }
  }
  /// Several statements without values.
  Result<void> execute(const char* sql);
  /// First column of the first row; 0 without one.
  Result<int64_t> query_number(std::string_view sql);
  int64_t rows_changed() const;
  const Options& options() const { return options_; }
  sqlite3* raw() const { return db_; }

 private:
  friend class Statement;
  friend class WriteTransaction;
  explicit Database(Options options) : options_(std::move(options)) {}
  /// What the last call ran into.
  Error failure(int code) const;
  static int on_busy(void* self, int tries);
  void lock_writers();
  void unlock_writers();

  sqlite3* db_ = nullptr;
  Options options_;
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

/// The only writer from begin() to commit(); rolls back unless committed.
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

}  // namespace hull::db
